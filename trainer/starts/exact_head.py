"""A linear head as a memory: one vector per class, from which one training step recovers the head exactly.

The network `linear` begins at zero, where all classes are equally likely. One step of rate a with cross-entropy, on one
vector x_c of each of n classes, gives the weights (a / n)(x_c - mean of x) and no bias. The vectors x_c = (C / a) w_c
therefore store the weights w of C classes. The bias b is stored as a shift v of the features, w_c v = b_c, in the
preprocessing. For n of the C classes, the step gives their columns, times C / n. The closed form of Chen, Huang and
Weng (NeurIPS 2024) needs training until convergence, and recovers the head for all classes only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.memory import StoredItems
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining

LARGEST_RATE = 10.0  # of a training schedule


class Head(NamedTuple):
    """Logits x W + b of features x: `weights` [D, C] and `bias` [C]."""

    weights: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.weights + self.bias


class ExactMemory(NamedTuple):
    memory: StoredItems
    preprocessing: Standardise
    retraining: Retraining


def exact_memory(head: Head, preprocessing: Standardise) -> ExactMemory:
    """The memory, preprocessing and schedule from which training gives `head`, a head on standardised features."""
    weights = head.weights - head.weights.mean(
        dim=1, keepdim=True
    )  # the softmax ignores what all classes have in common
    bias = head.bias - head.bias.mean()
    shift = torch.linalg.lstsq(weights.T.double(), bias.double(), driver="gelsd").solution.to(weights)
    classes = weights.shape[1]
    rate = min(LARGEST_RATE, float(classes))
    moved = Standardise(preprocessing.mean - preprocessing.deviation * shift, preprocessing.deviation)
    schedule = Retraining(
        network=NetworkSpec(architecture="linear"), steps=1, learning_rate=rate, momentum=0, rows_per_class=1
    )
    return ExactMemory(StoredItems((classes / rate * weights.T).unsqueeze(1).contiguous()), moved, schedule)


def softmax_head(features: Tensor, labels: Tensor, classes: int, ridge: float, *, steps: int = 60) -> Head:
    """Softmax regression on features [N, D] with ridge / 2 |w|^2 in the mean loss, by L-BFGS."""
    weights = features.new_zeros(features.shape[1], classes).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = cross_entropy(features @ weights + bias, labels) + ridge / 2 * weights.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return Head(weights.detach(), bias.detach())
