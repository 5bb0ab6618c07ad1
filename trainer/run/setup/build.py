"""What a run needs of a data set and a method: the fitted preprocessing, and the training data in model space."""

from __future__ import annotations

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import AbstractPreprocessing, unprojected
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.methods.method import Method
from trainer.objectives.real_data import RealData
from trainer.starts.from_bundle import check_continuable


def fit_preprocessing(
    dataset: ImageDataset, method: Method, start: MemoryBundle | None = None, *, moments: SecondMoments | None = None
) -> AbstractPreprocessing:
    """The method's preprocessing, fitted to the training pictures; a continued memory keeps its own.

    A projection onto the memory's bases is added later (`PreprocessingSpec.onto`). `moments` are those of all training
    pictures, if the data set holds only a sample. Raises ValueError for a bundle that these pictures cannot continue.
    """
    if start is not None:
        check_continuable(start, dataset.classes, dataset.image_shape, method.preprocessing.kind, method.queries.kind)
        return unprojected(start.preprocessing)
    return method.preprocessing.fit(dataset.train, moments)


def real_data(dataset: ImageDataset, preprocessing: AbstractPreprocessing, device: torch.device) -> RealData:
    """The training pictures in model space, resident on the device."""
    images = preprocessing.to_model(dataset.train.pixels()).to(device)
    return RealData.of(images, dataset.train.labels.to(device), len(dataset.classes))
