"""What a memory addressed by pictures knows, as its encoder sees it: the file that out-of-set scores are made from.

Centres of the encodings of training pictures, by k-means, and the distances of validation pictures to them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.novelty import NoveltyScorer
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import UnsupportedQuery
from trainer.data.datasets import ImageDataset, Split

CENTRES = 32  # as good as 256 on the training pictures of Fashion-MNIST, MNIST and CIFAR-10
PICTURES, CALIBRATION = 3000, 1000  # at most, of the training and of the validation split


def fit_familiarity(bundle: Path, dataset: ImageDataset, *, centres: int = CENTRES, seed: int = 0) -> Path:
    """Write the file beside the bundle's encoder, and return where.

    Raises InvalidBundle and StorageFailed, UnsupportedQuery for a bundle addressed by labels, and ValueError where the
    data set has fewer training pictures than centres, or no validation pictures.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (the extra `trainer`; and half a second of every start)

    reference = MemoryBundle.load(bundle).manifest.query_encoder
    if reference is None:
        raise UnsupportedQuery(f"the memory {bundle.stem!r} is addressed by labels, so it has no encoder")
    if len(dataset.train) < centres or not len(dataset.validation):
        raise ValueError(f"{centres} centres need as many training pictures or more, and validation pictures")
    file = encoder_folder(bundle) / reference.file
    encoder = QueryEncoder(file, reference.sha256, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    known = _encoded(dataset.train, encoder, PICTURES, generator)
    clusters = KMeans(centres, n_init=4, random_state=seed).fit(known.numpy())
    calibration = _encoded(dataset.validation, encoder, CALIBRATION, generator)
    familiarity = NoveltyScorer.of(torch.from_numpy(clusters.cluster_centers_), calibration)
    return familiarity.save(file, reference.sha256)


def _encoded(split: Split, encoder: QueryEncoder, most: int, generator: torch.Generator) -> Tensor:
    """What the encoder makes of some pictures of a split: [n, d_y]."""
    chosen = torch.randperm(len(split), generator=generator)[:most]
    return torch.from_numpy(encoder.encode(split.select(chosen).pixels().numpy()))
