"""Where a memory addressed by pictures starts, and its encoder: both in closed form, before any outer step.

The encoder's convolutions are random, or have learned the classes (`pretrained_encoder.py`); its last layer gives the
leading principal components of their features, or their linear discriminants, on a scale of one. The matrices are
those by which the mean vector of a few pictures of a class says most of what typical pictures of that class are over
the leading eigenvectors (`principal.py`): a ridge regression. A start of random matrices recalls noise, from which the
first hundreds of outer steps do nothing but find the way here.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.splits import Split

PICTURES_OF_A_CLASS = 200  # that features are taken of, at most
DRAWS = 30  # queries of each class that the regression sees
RIDGE = 1e-3  # of the regression, in units of the queries' mean square
SHRINKAGE = 0.1  # of the scatter within classes, in units of its mean variance
ROUNDS = 3  # of aligning rows
CHUNK = 500


def start_by_pictures(
    start: AddressedBases,
    encoder: AbstractNetwork,
    parameters: Parameters,
    split: Split,
    preprocessing: AbstractPreprocessing,
    *,
    shots: int,
    discriminants: bool = False,
    generator: torch.Generator,
) -> tuple[AddressedBases, Parameters]:
    """The memory that `shots` pictures of a class address, and the encoder's parameters; the same for the same seed.

    `start` is addressed by labels, one column of coefficients for each class of `split`. Where the encoder has fewer
    features than a query has numbers, or there are fewer pictures, its last layer stays as it is.
    """
    classes = start.query_size
    members = [
        index[torch.randperm(len(index), generator=generator)[:PICTURES_OF_A_CLASS]]
        for index in (torch.nonzero(split.labels == label).flatten() for label in range(classes))
    ]
    some = split.select(torch.cat(members))
    with torch.no_grad():
        chunks = [preprocessing.to_model(chunk.pixels()) for chunk in some.chunks(CHUNK)]
        features = torch.cat([encoder.features(parameters, images) for images in chunks])
        if encoder.classes <= min(features.shape):
            if discriminants:
                parameters = parameters | discriminant_layer(features, some.labels, encoder.classes)
            else:
                parameters = parameters | principal_layer(features, encoder.classes)
        vectors = features @ parameters["classifier.weight"].T + parameters["classifier.bias"]
        of_class = torch.split(vectors, [len(index) for index in members])
        queries = torch.stack([_means(each, shots, generator) for each in of_class])  # [C, DRAWS, d_y]
        addressing = regressed(queries, aligned(start.addressing))
    return replace(start, addressing=addressing), parameters


def principal_layer(features: Tensor, size: int) -> Parameters:
    """The last layer that turns features [N, F] into their `size` leading principal components, of mean square one."""
    numbers = features.double()
    centred = numbers - numbers.mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return _layer(numbers, directions[:, -size:].flip(1))


def discriminant_layer(features: Tensor, labels: Tensor, size: int) -> Parameters:
    """The last layer that gives those `size` directions of features [N, F] that tell labels [N] apart best (Fisher).

    Beyond one less than there are classes, directions say nothing of them.
    """
    numbers = features.double()
    means = torch.stack([numbers[labels == label].mean(dim=0) for label in range(int(labels.max()) + 1)])
    within = numbers - means[labels]
    scatter = within.T @ within / len(numbers)
    scatter.diagonal().add_(SHRINKAGE * scatter.diagonal().mean())
    root = torch.linalg.cholesky(scatter)
    apart = torch.linalg.solve_triangular(root, (means - means.mean(dim=0)).T, upper=False)  # [F, C], whitened within
    _, directions = torch.linalg.eigh(apart @ apart.T)
    return _layer(numbers, torch.linalg.solve_triangular(root.T, directions[:, -size:].flip(1), upper=True))


def _layer(features: Tensor, directions: Tensor) -> Parameters:
    """Features [N, F] along directions [F, size], centred and of mean square one."""
    mean = features.mean(dim=0)
    scale = ((features - mean) @ directions).square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    weight = (directions / scale).T
    return {"classifier.weight": weight.float(), "classifier.bias": -(weight @ mean).float()}


def aligned(coefficients: Tensor) -> Tensor:
    """Coefficients [r, C, K] with the rows of each class in that order in which they are most like other classes'.

    One matrix makes a row for all classes: it can the better, the less a row changes from one class to the next.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (the extra `trainer`)

    ordered, typical = coefficients.clone(), coefficients[:, 0]
    for _ in range(ROUNDS):
        for label in range(coefficients.shape[1]):
            distances = torch.cdist(typical, ordered[:, label]).square()
            ordered[:, label] = ordered[linear_sum_assignment(distances.numpy())[1], label]
        typical = ordered.mean(dim=1)
    return ordered


def regressed(queries: Tensor, coefficients: Tensor) -> Tensor:
    """The matrices [r, d_y, K] that lead from queries [C, n, d_y] to their class's coefficients [r, C, K] best."""
    rows, classes, bases = coefficients.shape
    x = queries.flatten(0, 1).double()
    y = coefficients.transpose(0, 1).reshape(classes, 1, rows * bases).expand(-1, queries.shape[1], -1)
    products = x.T @ x
    ridge = RIDGE * products.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    found = torch.linalg.solve(products + ridge * torch.eye(len(products)), x.T @ y.flatten(0, 1).double())
    matrices: Tensor = found.float().reshape(-1, rows, bases).transpose(0, 1).contiguous()
    return matrices


def _means(vectors: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """The means [DRAWS, d_y] of `shots` of the vectors [n, d_y] at random."""
    return vectors[torch.randint(len(vectors), (DRAWS, shots), generator=generator)].mean(dim=1)
