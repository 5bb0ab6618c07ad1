"""Inner training in the span of the bases equals training on the recalled images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.networks import MLP
from tests.tolerances import assert_close
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.narrow_training import HIDDEN_WEIGHT
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.inner.steps.step import TrainState
from trainer.objectives.inner.unroll import train, unroll
from trainer.objectives.sampler import OuterBatch
from trainer.objectives.unrolled.subspace import SubspaceUnrolled, span
from trainer.objectives.unrolled.unrolled import Unrolled

NETWORK = MLP(channels=1, height=8, width=8, classes=3, hidden=12)
TERMS = 7 * 20 * 64  # steps, pictures and their pixels
DEEP = MLP(channels=1, height=8, width=8, classes=3, hidden=12, depth=2)
SCHEDULE = {"steps": 7, "rate": 0.1, "momentum": 0.9}
RATE, MOMENTUM = torch.tensor(0.1), torch.tensor(0.9)
Score = Callable[[AddressedBases, Tensor, Tensor, torch.Generator], Tensor]  # of a memory, on images with targets


def memory(side: int = 4) -> AddressedBases:
    generator = torch.Generator().manual_seed(0)
    bases, addressing = torch.randn(5, 1, side, side, generator=generator), torch.randn(4, 3, 5, generator=generator)
    return AddressedBases(bases.requires_grad_(), addressing.requires_grad_(), 8, 8)


def loss_and_gradients(score: Score, memory: AddressedBases, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    loss = score(memory, images, torch.eye(3)[torch.arange(20) % 3], generator)
    return loss.detach(), *torch.autograd.grad(loss, list(memory.tensors().values()))


def both(network: MLP, window: int, rows: int) -> tuple[Score, Score]:
    """Through pictures, and through coordinates."""
    step = DifferentiatedStep(network, compiled=False)
    training = Momentum(SCHEDULE["momentum"])
    unrolled = Unrolled(step, steps=7, window=window, rate=SCHEDULE["rate"], rows_per_class=rows, training=training)

    def whole(memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        return unrolled.score(OuterBatch(memory.recall(torch.eye(3)), images, targets), generator)

    return whole, SubspaceUnrolled(network, window=window, rows_per_class=rows, **SCHEDULE).score  # type: ignore[arg-type]


@pytest.mark.parametrize("network", [NETWORK, DEEP])
@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("rows", [2, 4])
def test_loss_and_gradients_are_those_of_training_on_the_pictures(network: MLP, side: int, rows: int) -> None:
    expected, found = (loss_and_gradients(score, memory(side), 1) for score in both(network, 7, rows))
    assert_close(found, expected, terms=TERMS)


@pytest.mark.parametrize("rows", [2, 4])
def test_the_loss_after_a_window_is_that_of_training_on_the_pictures(rows: int) -> None:
    for seed in range(4):  # which decides how many steps come before the window
        expected, found = (loss_and_gradients(score, memory(), seed)[0] for score in both(NETWORK, 3, rows))
        assert_close(found, expected, terms=TERMS)


def test_earlier_windows_are_rotated_with_the_bases() -> None:
    """As training on pictures has it from weights W_0 + L Q^T and a velocity v Q^T, with L and v constant."""
    window = 3
    objective = SubspaceUnrolled(NETWORK, window=window, rows_per_class=4, **SCHEDULE)  # type: ignore[arg-type]
    for seed in range(4):
        mine = memory()
        expected, found = (loss_and_gradients(score, mine, seed) for score in (Turning(window).score, objective.score))
        assert_close(found, expected, terms=TERMS)


class Turning:
    """The definition, on pictures, for minibatches of everything."""

    def __init__(self, window: int) -> None:
        self.window = window

    def score(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        length = int(torch.randint(self.window, 8, (), generator=generator))
        start = NETWORK.initialise(generator)
        velocity = {name: torch.zeros_like(value) for name, value in start.items()}
        step = DifferentiatedStep(NETWORK, compiled=False)
        recalled = memory.items(torch.eye(3)).flatten(0, 1)
        labels = torch.eye(3).repeat_interleave(4, dim=0)
        batches, same = recalled.expand(length, *recalled.shape), labels.expand(length, *labels.shape)
        before = length - self.window
        state = train(step, TrainState(start, velocity, RATE, MOMENTUM), batches[:before], same[:before])
        past, velocity = state.parameters, state.velocity
        basis, _ = span(memory)
        fixed = basis.detach()
        turned = (past[HIDDEN_WEIGHT] - start[HIDDEN_WEIGHT]) @ fixed @ basis.T
        past = past | {HIDDEN_WEIGHT: start[HIDDEN_WEIGHT] + turned}
        velocity = velocity | {HIDDEN_WEIGHT: velocity[HIDDEN_WEIGHT] @ fixed @ basis.T}
        trained = unroll(step, state.at(past, velocity), batches[before:], same[before:])
        return step.evaluate(trained.parameters, images, targets)


def test_invalid_values_are_refused() -> None:
    with pytest.raises(ValueError, match="window of 8 does not lie within 1..7"):
        SubspaceUnrolled(NETWORK, window=8, rows_per_class=1, **SCHEDULE)  # type: ignore[arg-type]
