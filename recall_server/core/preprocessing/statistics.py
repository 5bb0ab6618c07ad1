"""Statistics of images that are too many to be converted at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.errors import InvalidDataset

CHUNK = 1024  # images at a time while fitting: bounds the memory used, whatever the size of the data set


def chunks(pixels: Tensor | NDArray[Any]) -> Iterator[Tensor]:
    """Yield the images in pixel space as float64 on the CPU, at most CHUNK at a time.

    Raises ValueError for another number of dimensions, InvalidDataset for no images or for values that are not finite.
    """
    if pixels.ndim != 4:
        raise ValueError(f"images must be [N, C, H, W], not {list(pixels.shape)}")
    if 0 in pixels.shape:
        raise InvalidDataset(f"there is nothing to fit in images of shape {list(pixels.shape)}")
    whole = pixels.dtype in (torch.uint8, np.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK]
        if not isinstance(part, Tensor):  # copied: torch rejects read-only, reversed and byte-swapped arrays
            part = torch.from_numpy(np.array(part, dtype=np.float64, order="C"))
        chunk = part.detach().to(device="cpu", dtype=torch.float64)
        if not bool(chunk.isfinite().all()):
            raise InvalidDataset(f"images {start} to {start + len(chunk) - 1} hold values that are not finite")
        yield chunk / 255 if whole else chunk


def chunked_mean(
    pixels: Tensor | NDArray[Any], statistic: Callable[[Tensor], Tensor] = lambda images: images
) -> Tensor:
    """The mean over all images [N, C, H, W] of a statistic of each, by default the image itself; float64."""
    count = 0
    total = torch.zeros(())
    for chunk in chunks(pixels):
        count += len(chunk)
        total = total + statistic(chunk).sum(dim=0)
    return total / count
