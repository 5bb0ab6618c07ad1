"""Fits the novelty scorer of a bundle that is addressed by pictures.

It consists of k-means centres of the encodings of training pictures, and the distances of validation pictures to them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.encoders.query_novelty import NoveltyScorer
from recall_server.errors import UnsupportedQuery
from trainer.data.datasets import ImageDataset, Split

CENTRES = 32  # as good as 256 on the training pictures of Fashion-MNIST, MNIST and CIFAR-10
PICTURES, CALIBRATION = 3000, 1000  # limits for the training and the validation pictures


def fit_novelty_scorer(bundle: Path, dataset: ImageDataset, *, centres: int = CENTRES, seed: int = 0) -> Path:
    """Write the scorer beside the bundle's encoder, and return its path.

    Raises UnsupportedQuery for a bundle that is addressed by labels, ValueError for a data set with fewer training
    pictures than centres or without validation pictures, InvalidBundle and StorageFailed.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`; the import takes half a second)

    reference = MemoryBundle.load(bundle).manifest.query_encoder
    if reference is None:
        raise UnsupportedQuery(f"the memory {bundle.stem!r} is addressed by labels, so it has no encoder")
    if len(dataset.train) < centres or not len(dataset.validation):
        raise ValueError(f"{centres} centres need at least as many training pictures, and validation pictures")
    file = encoder_folder(bundle) / reference.file
    encoder = QueryEncoder(file, reference.sha256, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    known = _encoded(dataset.train, encoder, PICTURES, generator)
    clusters = KMeans(centres, n_init=4, random_state=seed).fit(known.numpy())
    calibration = _encoded(dataset.validation, encoder, CALIBRATION, generator)
    scorer = NoveltyScorer.of(torch.from_numpy(clusters.cluster_centers_), calibration)
    return scorer.save(file, reference.sha256)


def _encoded(split: Split, encoder: QueryEncoder, most: int, generator: torch.Generator) -> Tensor:
    """The encodings [n, d_y] of at most `most` random pictures of a split."""
    chosen = torch.randperm(len(split), generator=generator)[:most]
    return torch.from_numpy(encoder.encode(split.select(chosen).pixels().numpy()))
