"""What learners make of a few vectors, which need not have one class each: linear, MLP and kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.heads.lbfgs import minimise
from recall_server.core.training.retraining import Retraining
from trainer.starts.features.trained_features import Labelled

RIDGES = (0.003, 0.03, 0.3)
MLP = Retraining(
    network=NetworkSpec(architecture="mlp", hidden=256, depth=1), steps=300, learning_rate=0.01, rows_per_class=1
)

Logits = Callable[[Tensor], Tensor]


class Vectors(NamedTuple):
    """`vectors` [n, D], and the share of each class in what each stands for, `targets` [n, C]."""

    vectors: Tensor
    targets: Tensor

    @classmethod
    def of_classes(cls, vectors: Tensor) -> Vectors:
        """Of vectors [C, r, D]."""
        classes, rows, _ = vectors.shape
        return cls(vectors.flatten(0, 1), torch.eye(classes).repeat_interleave(rows, dim=0))


def right(logits: Logits, data: Labelled) -> float:
    """The share of features that get their own class."""
    parts = zip(torch.split(data.features, 2048), torch.split(data.labels, 2048), strict=True)
    return sum(float((logits(some.float()).argmax(dim=1) == labels).sum()) for some, labels in parts) / len(data.labels)


def linear(data: Vectors, validation: Labelled) -> Logits:
    """Softmax regression with the ridge that is best on validation features."""

    def fitted(ridge: float) -> LinearHead:
        def loss(weights: Tensor, bias: Tensor) -> Tensor:
            value = cross_entropy(data.vectors @ weights.T + bias, data.targets)
            return value + ridge / 2 * weights.square().sum()

        classes = data.targets.shape[1]
        start = [torch.zeros(classes, data.vectors.shape[1]), torch.zeros(classes)]
        return LinearHead(*minimise(loss, start, 60))

    heads = [fitted(ridge) for ridge in RIDGES]
    return max(heads, key=lambda head: right(head.logits, validation)).logits


def kernel(data: Vectors, validation: Labelled) -> Logits:
    """Ridge regression on a Gaussian kernel, with the width and the ridge that are best on validation features."""
    vectors, targets = data.vectors, data.targets - data.targets.mean(dim=0)
    spread = float(torch.cdist(vectors, validation.features[:256].float()).square().mean())

    def fitted(scale: float, ridge: float) -> Logits:
        products = (-torch.cdist(vectors, vectors).square() / (scale * spread)).exp()
        weights = torch.linalg.solve(products + ridge * torch.eye(len(vectors)), targets)
        return lambda features: (-torch.cdist(features, vectors).square() / (scale * spread)).exp() @ weights

    some = Labelled(validation.features[::4], validation.labels[::4])
    choices = [fitted(scale, ridge) for scale in (0.5, 2.0, 10.0) for ridge in (1e-3, 1e-1)]
    return max(choices, key=lambda logits: right(logits, some))


def trained(data: Vectors, schedule: Retraining, seed: int) -> Logits:
    """The classifier that a server trains by this schedule, on features as they are."""
    classes, width = data.targets.shape[1], data.vectors.shape[1]
    identity = Standardise(torch.zeros(width), torch.ones(width))
    made = FreshClassifier([str(each) for each in range(classes)], (width, 1, 1), identity, schedule, seed=seed)
    made.fit(data.vectors[:, None, :, None, None], data.targets.unsqueeze(1))
    return lambda features: made.predict_probabilities(features[:, :, None, None])


def mlp(data: Vectors, networks: int, test: Labelled) -> float:
    """The mean accuracy of so many networks with one hidden layer."""
    return sum(right(trained(data, MLP, seed), test) for seed in range(networks)) / networks
