"""A linear head of low rank, for memories smaller than one vector of each class.

Reduced-rank regression (Izenman, 1975) for softmax regression: the weights are a product of two thin matrices, which
start at the best approximation of the full head and are trained on all features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead, eigen
from recall_server.core.training.heads.lbfgs import minimise
from recall_server.core.training.heads.loss import head_loss
from trainer.starts.features.trained_features import Labelled

STEPS = 60  # of L-BFGS
SMALLEST = 1e-5  # of the largest variance: directions below are rounding


def truncated(head: LinearHead, features: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors [C, K] and [K, D] of the best approximation of the head's logits on features [N, D] without a bias."""
    moments = features.T @ features / len(features)
    values, directions = eigen(moments)
    values = values.clamp(min=SMALLEST * float(values.max()))
    root, back = (directions * values.sqrt()) @ directions.T, (directions * values.rsqrt()) @ directions.T
    left, sizes, right = torch.linalg.svd((head.weights - head.weights.mean(dim=0)) @ root, full_matrices=False)
    return left[:, :rank] * sizes[:rank], right[:rank] @ back


def low_rank_factors(head: LinearHead, data: Labelled, rank: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Factors A [C, K] and orthonormal B [K, D] of weights A B without a bias, trained from the full head on."""
    features = data.features.float()

    def loss(left: Tensor, right: Tensor) -> Tensor:
        return head_loss(features @ right.T @ left.T, data.labels, (ridge, left @ right))

    left, right = minimise(loss, truncated(head, features, rank), STEPS)
    q, r = torch.linalg.qr(right.T)
    factors = left @ r.T
    return factors - factors.mean(dim=0), q.T.contiguous()
