"""CAFE's losses are their formulas, written out naively in float64; its networks end and begin as its rules say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import avg_pool2d, conv2d, group_norm, pad, relu

from recall_server.core.networks import MLP, Parameters
from tests.tolerances import assert_close
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, ages, batch, doubles, images, sampler
from trainer.objectives.base import State
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.matching.activations import Activations
from trainer.objectives.matching.alignment import FeatureAlignment
from trainer.objectives.matching.networks import FreshNetworks, NetworksTrainedOnRecalled
from trainer.objectives.matching.steady_networks import ACCURACIES, SteadyNetworks

STEP = DifferentiatedStep(NETWORK, compiled=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def activations(parameters: Parameters, pictures: Tensor) -> list[Tensor]:
    """After each ReLU of the two blocks, and after the last pooling; by torch's own layers."""
    found, x = [], pad(pictures, (1, 1, 0, 0))
    for block in range(2):
        name = f"block{block}"
        x = conv2d(x, parameters[f"{name}.convolution.weight"], parameters[f"{name}.convolution.bias"], padding=1)
        x = relu(group_norm(x, 4, parameters[f"{name}.norm.scale"], parameters[f"{name}.norm.shift"]))
        found.append(x.flatten(1))
        x = avg_pool2d(x, 2)
    return [*found, x.flatten(1)]


def naive(parameters: Parameters, recalled: Tensor, real: Tensor) -> float:
    loss, centres = 0.0, []
    for label in range(3):
        mine, theirs = (activations(parameters, part[label]) for part in (recalled, real))
        for weight, own, other in zip((0.1, 1.0, 2.0), mine, theirs, strict=True):
            loss += weight * float(((own.mean(0) - other.mean(0)) ** 2).sum())
        centres.append(mine[-1].mean(0))
    for label in range(3):
        for features in activations(parameters, real[label])[-1]:
            scores = torch.stack([features @ centre for centre in centres])
            loss += 0.01 * float(scores.logsumexp(0) - scores[label])
    return loss


def alignment() -> FeatureAlignment:
    return FeatureAlignment(activations=Activations(NETWORK), networks=FreshNetworks(NETWORK), real_per_class=5)


def test_the_loss_is_the_alignment_of_all_layers_and_the_discrimination_of_real_items() -> None:
    parameters, recalled, real = doubles(), images(3, 2), images(3, 5, seed=2)
    found = alignment().compare(batch(recalled, real), parameters, generator())
    assert_close(found.item(), naive(parameters, recalled, real), terms=TERMS)


def test_the_loss_has_the_gradient_of_finite_differences() -> None:
    parameters, real = doubles(), images(3, 5, seed=2)

    def loss(recalled: Tensor) -> Tensor:
        return alignment().compare(batch(recalled, real), parameters, generator())

    assert gradcheck(loss, images(3, 2).requires_grad_(), fast_mode=True)


def test_only_the_layers_of_a_convnet_are_compared() -> None:
    with pytest.raises(ValueError, match="the layers of a ConvNet are compared, not those of MLP"):
        Activations.of(MLP(channels=2, height=8, width=10, classes=3, hidden=5, depth=1))


def steady(**changed: float) -> SteadyNetworks:
    training = NetworksTrainedOnRecalled(STEP, 30, epochs=int(changed.pop("epochs", 2)), rate=0.1, batch=99)
    return SteadyNetworks(training, loops=30, per_class=2, **changed)  # type: ignore[arg-type]


def test_a_network_is_replaced_when_ten_accuracies_are_close() -> None:
    assert ages(steady(steady=2.0), 12) == [*((0, done) for done in range(10)), (1, 0), (1, 1)]
    assert ages(steady(steady=0.0), 12) == [(0, done) for done in range(12)]


def test_a_new_network_has_no_accuracies_yet() -> None:
    networks = steady(steady=2.0)
    state: State = networks.begin(generator())
    for seed in range(10):
        state = networks.advance(sampler(), state, generator(seed))
    assert networks.age(state).networks == 1
    assert bool((state[ACCURACIES] == -1).all())


def test_training_between_comparisons_ends_when_the_accuracy_has_changed() -> None:
    seen: list[int] = []

    class Counting(DifferentiatedStep):  # type: ignore[misc]
        def forward(self, state, images, targets):  # type: ignore[no-untyped-def]
            seen.append(len(images))
            return super().forward(state, images, targets)

    for moved, expected in ((-1.0, 10), (2.0, 25)):
        seen.clear()
        training = NetworksTrainedOnRecalled(Counting(NETWORK, compiled=False), 30, 25, rate=0.1, batch=99)
        networks = SteadyNetworks(training, loops=30, moved=moved, per_class=2)
        networks.advance(sampler(), networks.begin(generator()), generator(1))
        assert len(seen) == expected, "ten accuracies that lie apart, or the most epochs that there are"
