"""Where distilling starts: from noise, as in the paper, or from the leading eigenvectors (design, section 2)."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.memory import AddressedBases

PICTURES_FOR_EIGENVECTORS = 20_000


def noise(
    image_shape: tuple[int, int, int], *, bases: int, rows: int, query_size: int, generator: torch.Generator
) -> AddressedBases:
    """Xavier-uniform bases and addressing, as the paper's authors start (research: their code, not Kaiming)."""
    channels, height, width = image_shape
    half = (height + 1) // 2, (width + 1) // 2

    def xavier(fan_out: int, fan_in: int, *shape: int) -> Tensor:
        bound = (6 / (fan_in + fan_out)) ** 0.5
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)

    return AddressedBases(
        bases=xavier(bases, channels * half[0] * half[1], bases, channels, *half),
        addressing=xavier(query_size * rows, bases, rows, query_size, bases),
        height=height,
        width=width,
    )


def principal(
    images: Tensor, labels: Tensor, *, classes: int, bases: int, rows: int, generator: torch.Generator
) -> AddressedBases:
    """Leading eigenvectors of the half-resolution images as bases, each class's k-means centres as coefficients.

    images float [N, C, H, W] in model space. The scale is balanced between bases and coefficients, so that one outer
    rate suits both. A class with fewer pictures than `rows` repeats its centres.
    """
    channels, height, width = images.shape[1:]
    half = (height + 1) // 2, (width + 1) // 2
    small = interpolate(images, size=half, mode="bilinear", antialias=True, align_corners=False).flatten(1)
    some = small[torch.randperm(len(small), generator=generator)[:PICTURES_FOR_EIGENVECTORS]].double()
    _, vectors = torch.linalg.eigh(some.T @ some / len(some))
    if bases > vectors.shape[1]:
        raise ValueError(f"{bases} bases are more than the {vectors.shape[1]} numbers of a half-resolution image")
    basis = vectors[:, -bases:].flip(1).T.float()  # [K, c*h*w], orthonormal rows, leading first
    seed = int(torch.randint(2**31, (), generator=generator))
    centres = [_centres(small[labels == label] @ basis.T, rows, seed) for label in range(classes)]
    addressing = torch.stack(centres, dim=1)  # [r, C, K]
    balance = (addressing.square().mean() / basis.square().mean()).sqrt().sqrt()
    return AddressedBases(
        bases=(basis * balance).reshape(bases, channels, *half),
        addressing=addressing / balance,
        height=height,
        width=width,
    )


def _centres(points: Tensor, count: int, seed: int) -> Tensor:
    """[N, K] -> [count, K] k-means centres; points are repeated where there are fewer than `count`."""
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`)

    points = points[:6000]
    if len(points) <= count:
        return points.repeat(-(-count // len(points)), 1)[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than centres: the surplus centres repeat
        found = KMeans(count, n_init=1, max_iter=30, random_state=seed).fit(points.numpy())
    return torch.from_numpy(found.cluster_centers_).float()
