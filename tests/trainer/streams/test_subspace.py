"""Inner training within the span of the bases is exactly training on the recalled pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.memory import AddressedBases
from recall_server.networks import MLP
from trainer.differentiated_step import DifferentiatedStep
from trainer.objectives.unrolled import Unrolled
from trainer.streams.objective import AbstractStreamObjective, RecalledUnrolled
from trainer.streams.subspace import SubspaceUnrolled

NETWORK = MLP(channels=1, height=8, width=8, classes=3, hidden=12)
DEEP = MLP(channels=1, height=8, width=8, classes=3, hidden=12, depth=2)
SCHEDULE = {"steps": 7, "rate": 0.1, "momentum": 0.9}


def memory(side: int = 4) -> AddressedBases:
    generator = torch.Generator().manual_seed(0)
    bases, addressing = torch.randn(5, 1, side, side, generator=generator), torch.randn(4, 3, 5, generator=generator)
    return AddressedBases(bases.requires_grad_(), addressing.requires_grad_(), 8, 8)


def loss_and_gradients(objective: AbstractStreamObjective, memory: AddressedBases, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    loss = objective.loss(memory, images, torch.eye(3)[torch.arange(20) % 3], generator)
    return loss.detach(), *torch.autograd.grad(loss, list(memory.tensors().values()))


@pytest.mark.parametrize("network", [NETWORK, DEEP])
@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize(("window", "rows"), [(7, 2), (3, 2), (7, 4), (3, 4)])
def test_loss_and_gradients_are_those_of_training_on_the_pictures(
    network: MLP, side: int, window: int, rows: int
) -> None:
    step = DifferentiatedStep(network, compiled=False)
    whole = RecalledUnrolled(Unrolled(step, window=window, rows_per_class=rows, **SCHEDULE))  # type: ignore[arg-type]
    narrow = SubspaceUnrolled(network, window=window, rows_per_class=rows, **SCHEDULE)  # type: ignore[arg-type]
    for seed in range(4):  # which decides how many steps come before the window
        expected, found = (loss_and_gradients(objective, memory(side), seed) for objective in (whole, narrow))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=2e-3)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 8 does not lie within 1..7"):
        SubspaceUnrolled(NETWORK, window=8, rows_per_class=1, **SCHEDULE)  # type: ignore[arg-type]
