"""Kernel regression is ridge regression, written out naively in float64, with the gradient of finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recall_server.core.memory import Recalled
from tests.tolerances import assert_close
from tests.trainer.objectives.matching.matching_examples import batch, images, sampler
from trainer.methods.named import compose
from trainer.objectives import OuterBatch
from trainer.objectives.kernel.neural_tangent import NeuralTangent
from trainer.objectives.kernel.random_features import RandomFeatures
from trainer.objectives.kernel.regression import LOG_SCALE, KernelRegression, initial_scale

RIDGE = 1e-3
GENERATOR = torch.Generator


def naive_predictions(items: Tensor, real: Tensor, targets: Tensor) -> Tensor:
    """K(T, S) (K(S, S) + r tr / n I)^-1 Y, with an inverse."""
    support, cross = NeuralTangent().products(items, real, {}, GENERATOR())
    ridge = RIDGE * torch.trace(support) / len(items)
    return cross @ torch.linalg.inv(support + ridge * torch.eye(len(items), dtype=torch.float64)) @ targets


def regression(kind: str = "squared_error", **changed: object) -> KernelRegression:
    return KernelRegression(NeuralTangent(), RIDGE, 6, kind, **changed)  # type: ignore[arg-type]


def learned_batch(targets: Tensor) -> OuterBatch:
    """Two recalled items of each of three classes with targets [3, 2, 3], and four real ones of each."""
    hard = batch(images(3, 2), images(3, 4, seed=2))
    return OuterBatch(Recalled(hard.recalled.items, targets), hard.items, hard.targets)


def test_the_squared_error_is_that_of_centred_one_hot_targets() -> None:
    made = batch(images(3, 2), images(3, 4, seed=2))
    centred = torch.eye(3, dtype=torch.float64) - 1 / 3
    predicted = naive_predictions(made.recalled.items.flatten(0, 1), made.items, centred.repeat_interleave(2, dim=0))
    expected = 0.5 * float(((predicted - centred.repeat_interleave(4, dim=0)) ** 2).sum()) / 12
    assert_close(regression().score(made, {}, GENERATOR()).item(), expected, terms=1000, gain=1 / RIDGE)


def test_the_cross_entropy_is_that_of_scaled_predictions() -> None:
    made = batch(images(3, 2), images(3, 4, seed=2))
    centred = torch.eye(3, dtype=torch.float64) - 1 / 3
    predicted = naive_predictions(made.recalled.items.flatten(0, 1), made.items, centred.repeat_interleave(2, dim=0))
    expected = 0.0
    for row, label in zip((4 * predicted).tolist(), made.targets.argmax(dim=1).tolist(), strict=True):
        expected += (math.log(sum(map(math.exp, row))) - row[label]) / 12
    objective = regression("cross_entropy", log_scale=torch.tensor(4.0, dtype=torch.float64).log())
    assert_close(objective.score(made, {}, GENERATOR()).item(), expected, terms=1000, gain=1 / RIDGE)


def test_learned_targets_get_a_gradient_and_a_margin_keeps_the_largest_ahead() -> None:
    targets = torch.randn(3, 2, 3, generator=GENERATOR().manual_seed(4), dtype=torch.float64).requires_grad_()
    plain, pushed = (
        regression(margin=margin).score(learned_batch(targets), {}, GENERATOR()) for margin in (False, True)
    )
    sorted_rows = [sorted(row) for row in targets.flatten(0, 1).tolist()]
    margins = [min(row[-1] - row[-2], 1 / 3) for row in sorted_rows]
    assert_close((plain - pushed).item(), sum(margins) / 6, terms=1000, gain=1 / RIDGE)
    (gradient,) = torch.autograd.grad(plain, targets)
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("kernel", [NeuralTangent(), RandomFeatures(networks=1, filters=2, depth=1)])
@pytest.mark.parametrize("kind", ["squared_error", "cross_entropy"])
def test_gradients_are_finite_differences(kernel: object, kind: str) -> None:
    objective = KernelRegression(kernel, 0.1, 6, kind)  # type: ignore[arg-type]
    made = batch(images(2, 1), images(2, 3, seed=2))

    def loss(items: Tensor) -> Tensor:
        changed = OuterBatch(Recalled(items, made.recalled.targets), made.items, made.targets)
        return objective.score(changed, {}, GENERATOR().manual_seed(0))

    assert gradcheck(loss, images(2, 1).requires_grad_(), fast_mode=True, atol=1e-4)


def test_a_learned_scale_has_its_own_start_and_rate() -> None:
    objective = regression("cross_entropy", log_scale=initial_scale(5.0, torch.device("cpu")))
    assert objective.learned()[LOG_SCALE].exp().item() == pytest.approx(5)
    objective.loss(sampler(), {}, GENERATOR().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
    assert objective.learned()[LOG_SCALE].grad is not None
    assert compose("rfad").outer.rate_of(LOG_SCALE) == 1e-2
    assert regression().learned() == {}


def test_kernels_are_chosen_by_kind_and_refuse_unsupported_items() -> None:
    method = compose("kip", ["objective.kernel=random_features", "objective.kernel.filters=7"])
    assert method.objective.kernel.filters == 7  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="the kernel neural_tangent has no field 'networks'"):
        compose("kip", ["objective.kernel.networks=3"])
