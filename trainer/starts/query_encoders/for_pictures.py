"""The start of a memory that is addressed by pictures, and of its encoder. Both are computed in closed form.

The last layer of the encoder projects its features onto their leading principal components or onto their linear
discriminants. The convolutions before it are random, or were trained to tell the classes apart
(`pretrained_encoder.py`). The addressing matrices come from a ridge regression: from the mean encoding of a few
pictures of a class to the coefficients of that class's representative pictures over the leading eigenvectors
(`eigenvectors.py`). Random matrices would recall noise, and distilling would spend its first hundreds of outer steps on
this regression.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases
from recall_server.core.networks import AbstractNetwork, Parameters
from trainer.starts.training_data import TrainingData

PICTURES_OF_A_CLASS = 200  # most pictures of a class whose features are computed
DRAWS = 30  # queries of each class in the regression
RIDGE = 1e-3  # in units of the mean square of the queries
SHRINKAGE = 0.1  # added to the diagonal of the scatter within classes, in units of its mean
ROUNDS = 3  # passes over the classes in `aligned`
CHUNK = 500


def start_by_pictures(
    start: AddressedBases,
    encoder: AbstractNetwork,
    parameters: Parameters,
    data: TrainingData,
    *,
    shots: int,
    discriminants: bool = False,
) -> tuple[AddressedBases, Parameters]:
    """The memory that `shots` pictures of a class address, and the encoder's parameters.

    `start` is addressed by labels and has one column of coefficients for each class of `data`. The encoder's last
    layer is not changed if the encoder has fewer features, or there are fewer pictures, than a query has numbers. The
    same seed gives the same result.
    """
    classes, split, generator = start.query_size, data.split, data.generator
    members = [
        index[torch.randperm(len(index), generator=generator)[:PICTURES_OF_A_CLASS]]
        for index in (torch.nonzero(split.labels == label).flatten() for label in range(classes))
    ]
    some = split.select(torch.cat(members))
    with torch.no_grad():
        chunks = [data.items(chunk) for chunk in some.chunks(CHUNK)]
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
    """The last layer that maps features [N, F] to their `size` leading principal components, of mean square one."""
    numbers = features.double()
    centred = numbers - numbers.mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    return _layer(numbers, directions[:, -size:].flip(1))


def discriminant_layer(features: Tensor, labels: Tensor, size: int) -> Parameters:
    """The last layer that maps features [N, F] to the `size` directions that separate `labels` [N] best (Fisher).

    Only as many directions as there are classes, less one, carry information about the classes.
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
    """The last layer that maps features [N, F] to their coordinates along `directions` [F, size].

    The coordinates are centred and have a mean square of one.
    """
    mean = features.mean(dim=0)
    scale = ((features - mean) @ directions).square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
    weight = (directions / scale).T
    return {"classifier.weight": weight.float(), "classifier.bias": -(weight @ mean).float()}


def aligned(coefficients: Tensor) -> Tensor:
    """Coefficients [r, C, K], with the rows of each class reordered so that row i is similar in all classes.

    Row i of all classes is recalled by the same matrix, which fits better the less the row differs between classes.
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
    """Ridge regression: matrices [r, d_y, K] that map queries [C, n, d_y] to their class's coefficients [r, C, K]."""
    rows, classes, bases = coefficients.shape
    x = queries.flatten(0, 1).double()
    y = coefficients.transpose(0, 1).reshape(classes, 1, rows * bases).expand(-1, queries.shape[1], -1)
    products = x.T @ x
    ridge = RIDGE * products.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    found = torch.linalg.solve(products + ridge * torch.eye(len(products)), x.T @ y.flatten(0, 1).double())
    matrices: Tensor = found.float().reshape(-1, rows, bases).transpose(0, 1).contiguous()
    return matrices


def _means(vectors: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """The means [DRAWS, d_y] of `shots` random vectors each, of vectors [n, d_y]."""
    return vectors[torch.randint(len(vectors), (DRAWS, shots), generator=generator)].mean(dim=1)
