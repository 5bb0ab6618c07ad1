"""What a method is built for: the data, the model space, and the start of the run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import AbstractNetwork, NetworkSpec, build_network
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.starts.few_samples import Samples
from trainer.starts.training_data import TrainingData


@dataclass(frozen=True)
class Problem:
    """`bundle` is the bundle to continue, with the ONNX file of its query `encoder` if pictures address it.

    `moments` are those of all training pictures, if the data set holds only a sample. `samples` are those of a stream
    that have arrived, if there is no data set.
    """

    dataset: ImageDataset
    preprocessing: AbstractPreprocessing
    generator: torch.Generator
    device: torch.device
    bundle: MemoryBundle | None = None
    encoder: bytes | None = None
    moments: SecondMoments | None = None
    samples: Samples | None = None

    def network(self, spec: NetworkSpec, classes: int | None = None) -> AbstractNetwork:
        """The network for pictures of the data set and for all of its classes, or for so many."""
        return build_network(spec, self.dataset.image_shape, classes or len(self.dataset.classes))

    @property
    def training(self) -> TrainingData:
        """What a start is computed from."""
        return TrainingData(self.dataset.train, self.preprocessing, self.generator, self.device)


@dataclass(frozen=True)
class MemoryShape:
    """What determines the size of a memory: items of `item_shape` for `classes`, and queries of `query_size`.

    `image_numbers` is the size of a picture, in which budgets are counted.
    """

    classes: int
    query_size: int
    item_shape: tuple[int, ...]
    image_numbers: int
