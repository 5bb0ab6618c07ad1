"""The linear head that a memory of features stores: softmax regression on all features."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead


def softmax_head(
    features: Tensor, labels: Tensor, classes: int, ridge: float, *, steps: int = 60, bias: bool = True
) -> LinearHead:
    """Softmax regression on features [N, D] with ridge / 2 |W|^2 in the mean loss, by L-BFGS."""
    weights = features.new_zeros(classes, features.shape[1]).requires_grad_()
    shift = features.new_zeros(classes).requires_grad_(bias)

    def loss() -> Tensor:
        return cross_entropy(features @ weights.T + shift, labels) + ridge / 2 * weights.square().sum()

    minimise(loss, [weights, shift] if bias else [weights], steps)
    return LinearHead(weights.detach(), shift.detach())


def minimise(loss: Callable[[], Tensor], tensors: Sequence[Tensor], steps: int) -> None:
    """Changes `tensors` to lower `loss`, which is smooth and computed on all data, by so many steps of L-BFGS."""
    optimiser = torch.optim.LBFGS(tensors, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
