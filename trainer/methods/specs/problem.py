"""What a method is built for: the data, the space in which networks see them, and where a run begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.starts.few_samples import Samples


@dataclass(frozen=True)
class Problem:
    """`bundle` is one to go on from, `encoder` the ONNX file of its query encoder where pictures address it.

    `moments` are those of all training pictures, where the data set holds a sample of them. `samples` are those of a
    stream that were seen, where the data set holds none.
    """

    dataset: ImageDataset
    preprocessing: AbstractPreprocessing
    generator: torch.Generator
    device: torch.device
    bundle: MemoryBundle | None = None
    encoder: bytes | None = None
    moments: SecondMoments | None = None
    samples: Samples | None = None


@dataclass(frozen=True)
class MemoryShape:
    """What decides how large a memory is: items of `item_shape` for `classes`, asked by queries of `query_size`.

    `image_numbers` is the size of a picture, in which budgets are counted.
    """

    classes: int
    query_size: int
    item_shape: tuple[int, ...]
    image_numbers: int
