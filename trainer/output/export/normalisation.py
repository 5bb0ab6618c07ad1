"""The normalisation of exported images, which must be the one that the tool applies to its test pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import Standardise, unprojected
from recall_server.core.preprocessing.invertible import SMALLEST

# The constants of DatasetCondensation, mtt-distillation, DC-Bench and DD-Ranking. These tools use CIFAR-10's values for
# CIFAR-100, and deviations that are averages over single images. They differ from measured values, but must be matched.
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CONSTANTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": CIFAR,
    "cifar100": CIFAR,
}


@dataclass(frozen=True)
class Normalisation:
    """x -> (x - mean) / deviation for each channel, in units of pixel space."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Images [N, C, H, W] in pixel space -> normalised images of the same shape."""
        return Standardise(torch.tensor(self.mean), torch.tensor(self.deviation)).to_model(pixels)


def choose(bundle: MemoryBundle, mean: tuple[float, ...] | None, deviation: tuple[float, ...] | None) -> Normalisation:
    """The given normalisation, else the tools' for the data set, else the bundle's own standardisation.

    Raises ValueError for only one of `mean` and `deviation`, for another number of channels, and if no normalisation is
    known, as for a whitened bundle of one's own data set.
    """
    channels = bundle.manifest.image.channels
    if (mean is None) != (deviation is None):
        raise ValueError("--mean and --deviation must be given together")
    if mean is not None and deviation is not None:
        if not len(mean) == len(deviation) == channels:
            raise ValueError(
                f"--mean and --deviation need one number per channel ({channels}), not {len(mean)} and {len(deviation)}"
            )
        if not all(map(math.isfinite, mean + deviation)) or min(deviation) < SMALLEST:
            raise ValueError("--mean and --deviation must be finite numbers, and --deviation must be above zero")
        return Normalisation(mean, deviation)
    known = CONSTANTS.get(bundle.manifest.provenance.dataset)
    if known is not None and len(known[0]) == channels:
        return Normalisation(*known)
    own = unprojected(bundle.preprocessing)
    if not isinstance(own, Standardise):
        raise ValueError(
            f"the bundle {bundle.manifest.name} is whitened and its data set has no standard normalisation; "
            "give the --mean and --deviation that your tool applies to its test pictures"
        )
    return Normalisation(tuple(own.mean.tolist()), tuple(own.deviation.tolist()))
