"""L-BFGS finds what closed forms find, and uses what is known of the curvature."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.training.heads.lbfgs import minimise
from tests.tolerances import assert_close, rounding


def quadratic(size: int, condition: float) -> tuple[Tensor, Tensor]:
    """A positive definite matrix in float64, and a vector."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, torch.tensor(condition).log10().item(), size, dtype=torch.float64)
    return (turn * values) @ turn.T, torch.randn(size, generator=generator, dtype=torch.float64)


def test_the_lowest_point_of_a_quadratic_is_found_in_two_tensors() -> None:
    matrix, vector = quadratic(12, 100)

    def loss(left: Tensor, right: Tensor) -> Tensor:
        both = torch.cat([left.flatten(), right])
        return both @ matrix @ both / 2 - vector @ both

    start = [torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]
    left, right = minimise(loss, start, 100)
    assert left.shape == (4, 2)
    solution = torch.linalg.solve(matrix, vector)
    # The loss is flat within the root of its rounding, relative to its size, around its lowest point.
    flat = (2 * torch.finfo(torch.float64).eps * float(vector @ solution)) ** 0.5
    assert float((torch.cat([left.flatten(), right]) - solution).norm()) < 4 * flat
    assert all(not bool(each.any()) for each in start)


def test_a_known_curvature_is_one_step() -> None:
    matrix, vector = quadratic(12, 1e6)
    calls = []

    def loss(point: Tensor) -> Tensor:
        calls.append(1)
        return point @ matrix @ point / 2 - vector @ point

    found = minimise(loss, [torch.zeros_like(vector)], 1, inverse=lambda each: [torch.linalg.solve(matrix, each)])
    assert len(calls) == 2
    assert_close(found[0], torch.linalg.solve(matrix, vector), terms=12, gain=1e6)


def test_a_curved_valley_is_followed() -> None:
    def rosenbrock(point: Tensor) -> Tensor:
        return (1 - point[0]).square() + 100 * (point[1] - point[0].square()).square()

    found = minimise(rosenbrock, [torch.tensor([-1.2, 1.0], dtype=torch.float64)], 100)[0]
    assert float((found - 1).abs().max()) < 1e-6


def test_softmax_regression_ends_at_its_lowest_loss() -> None:
    """By a bound of strongly convex functions: the loss is at most |gradient|^2 / (2 ridge) above its lowest."""
    generator, ridge = torch.Generator().manual_seed(1), 0.01
    features, labels = torch.randn(60, 5, generator=generator).double(), torch.randint(3, (60,), generator=generator)

    def loss(weights: Tensor) -> Tensor:
        return cross_entropy(features @ weights.T, labels) + ridge / 2 * weights.square().sum()

    found = minimise(loss, [torch.zeros(3, 5, dtype=torch.float64)], 200)[0].requires_grad_()
    value = loss(found)
    above = torch.autograd.grad(value, found)[0].square().sum() / (2 * ridge)
    assert float(above) < rounding(torch.float64, terms=60) * float(value.detach())


def test_where_there_is_nowhere_lower_it_stays() -> None:
    found = minimise(lambda point: point.square().sum(), [torch.zeros(3)], 10)[0]
    assert found.tolist() == [0, 0, 0]
    rising = minimise(lambda point: point.sum() * torch.nan, [torch.ones(3)], 10)[0]
    assert rising.tolist() == [1, 1, 1]
