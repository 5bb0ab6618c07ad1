"""The linear head that a memory of features stores: softmax regression on all features."""

from __future__ import annotations

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
    optimiser = torch.optim.LBFGS(
        [weights, shift] if bias else [weights], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(features @ weights.T + shift, labels) + ridge / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return LinearHead(weights.detach(), shift.detach())
