"""Counts, sums and second moments of classes, with differential privacy for single pictures.

The features of a picture are shortened to a length of at most `clip`. What it then adds to all statistics is one vector
of bounded length, and noise in proportion to that length hides it. Two data sets are neighbours if one of them has one
picture more. Whatever is computed from the noisy statistics is as private as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from recall_server.core.bundle.manifest import Scalar
from recall_server.core.reports.bundle_card import SECRET_NOISE
from trainer.starts.features.trained_features import Labelled
from trainer.starts.private.gaussian_mechanism import Noise, noise_scale, seeded_noise, system_noise

UNIT: Final = "one training picture, added or removed"
SHARES: Final = (0.2, 1.0, 1.0)  # of a picture's vector: its count, its sum and its products; chosen on CIFAR-10
CHUNK: Final = 4096  # features


class Privacy(BaseModel):
    """What is promised: (epsilon, delta)-privacy of one training picture, whose features are shortened to `clip`.

    The noise comes from the operating system. With a `noise_seed` it can be repeated, and nothing is promised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epsilon: Annotated[float, Field(gt=0)] = 8.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    noise_seed: int | None = None

    @property
    def noise(self) -> Noise:
        """Where the noise comes from."""
        return system_noise if self.noise_seed is None else seeded_noise(self.noise_seed)

    def recorded(self) -> dict[str, str | float]:
        """What a manifest says of it."""
        known = SECRET_NOISE if self.noise_seed is None else "of a known seed: nothing is promised"
        promise = {"epsilon": self.epsilon, "delta": self.delta, "clip": self.clip}
        return promise | {"privacy_unit": UNIT, "noise": known}


def without_promise(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings of a manifest without those of `Privacy`: what is added to a private memory is not private."""
    return {name: value for name, value in settings.items() if name not in Privacy().recorded()}


class Sums(NamedTuple):
    """Of features [N, D]: `counts` [C] and `sums` [C, D] of classes, and the `products` [D, D] of all; float64.

    `deviation` is that of the noise in a diagonal number of the products; other numbers there have it over root 2.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor
    deviation: float = 0.0


def clipped(features: Tensor, length: float) -> Tensor:
    """Features [N, D] as float64, those longer than `length` shortened to it."""
    exact = features.double()
    lengths = exact.norm(dim=1, keepdim=True)
    short: Tensor = exact * (length / lengths.clamp(min=length))
    return short


def exact_sums(data: Labelled, classes: int, clip: float) -> Sums:
    """The statistics of clipped features, without noise."""
    width = data.features.shape[1]
    counts = torch.bincount(data.labels, minlength=classes).double()
    sums, products = torch.zeros(classes, width).double(), torch.zeros(width, width).double()
    for features, labels in zip(torch.split(data.features, CHUNK), torch.split(data.labels, CHUNK), strict=True):
        short = clipped(features, clip)
        sums.index_add_(0, labels, short)
        products.addmm_(short.T, short)
    return Sums(counts, sums, products)


def as_vector(sums: Sums, clip: float) -> Tensor:
    """The statistics as the vector whose noise has one deviation everywhere. One picture changes it by at most 1.

    The products are symmetric: each pair of numbers off the diagonal is one number, root 2 times as large.
    """
    count, total, product = (share / math.hypot(*SHARES) for share in SHARES)
    upper = torch.triu(sums.products, 1) * math.sqrt(2) + torch.diag(sums.products.diagonal())
    parts = count * sums.counts, total / clip * sums.sums, product / clip**2 * upper
    return torch.cat([part.flatten() for part in parts])


def private_sums(data: Labelled, classes: int, privacy: Privacy) -> Sums:
    """The statistics with noise. Raises ValueError for a promise that no noise keeps."""
    exact, noise = exact_sums(data, classes, privacy.clip), privacy.noise
    sigma = noise_scale(privacy.epsilon, privacy.delta)
    count, total, product = (sigma * math.hypot(*SHARES) / share for share in SHARES)
    deviation = product * privacy.clip**2
    drawn = deviation * noise(tuple(exact.products.shape))
    above = torch.triu(drawn, 1) / math.sqrt(2)
    return Sums(
        exact.counts + count * noise(tuple(exact.counts.shape)),
        exact.sums + total * privacy.clip * noise(tuple(exact.sums.shape)),
        exact.products + above + above.T + torch.diag(drawn.diagonal()),
        deviation,
    )
