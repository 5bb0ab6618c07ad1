"""Combines what several memories recall into one training set.

Queries to one bundle keep its model space, its schedule and its soft targets. Images of several bundles are combined in
pixel space, as if they were pictures that somebody sends. `shared_format` decides beforehand what they have in common:

* Size: that of the bundle with the largest images. The others are cropped to its proportions around the centre, and
  resized with an antialiasing filter.
* Channels: colour if any bundle has colour. Grey is repeated in all three channels.
* Rows: as many as the memory with most of them recalls for a query. The rows of the others are repeated in turn, so
  that every class is seen equally often in every minibatch.
* Schedule: that of the bundle with the largest images; among several, of the one with the most queries, then of the
  longest. The augmentation is the strongest that all bundles allow, and networks begin at random.
* Model space: standardised by the recalled images. If every bundle projects on its bases, images are projected on the
  bases of all memories, since otherwise traces that only one memory can recall would reveal its classes.
* Features: if any bundle holds features, images of the others go through its encoder, and all keep its model space.
* Targets: one-hot. Stored targets exist only within a bundle.

A memory of features may hold a head instead. Its columns are used as they are, and joined with those of other memories
(`joined_head.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.networks import Parameters
from recall_server.core.preprocessing import AbstractPreprocessing, Projected, Standardise
from recall_server.core.training.augmentation import common_augmentation
from recall_server.core.training.retraining import Retraining
from recall_server.errors import UnsupportedQuery
from recall_server.recall.joined_head import HeadSource
from recall_server.recall.stored_heads import by_bundle, head_of, head_source, holds_head, in_order, training_step


@final
@dataclass(frozen=True, eq=False)
class BundleQuery:
    """A query vector [d_y] to a memory. `pretrained` are the layers that its classifiers begin with, if any.

    `encoder` is the encoder of a memory of features.
    """

    bundle: MemoryBundle
    vector: Tensor
    pretrained: Parameters | None = None
    encoder: QueryEncoder | None = None


@final
@dataclass(frozen=True, eq=False)
class SharedFormat:
    """What the items of several bundles have in common. The first of `bundles` is the one with the schedule.

    `image_shape` is what networks see: of an image, or (D, 1, 1) of features.
    """

    bundles: tuple[MemoryBundle, ...]
    image_shape: tuple[int, int, int]
    rows: int
    retraining: Retraining

    @property
    def feature_encoder(self) -> EncoderReference | None:
        """The encoder in whose features the classifier will work; None in pixel space."""
        return self.bundles[0].manifest.feature_encoder

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the pictures that the classifier will take."""
        return self.image_shape if self.feature_encoder is None else self.bundles[0].manifest.image.shape


@final
@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images [k, r, C, H, W] of k queries in the model space of `preprocessing`, and how to train on them.

    Features are images of D channels and one pixel.

    Each query is a class, and `targets` [k, r, k] are those of its images, [k, 1, k] if all share one. `pretrained` are
    the layers that networks begin with, if `retraining` uses any.
    """

    images: Tensor
    targets: Tensor
    preprocessing: AbstractPreprocessing
    retraining: Retraining
    pretrained: Parameters | None = None


def shared_format(bundles: Sequence[MemoryBundle]) -> SharedFormat:
    """The common format of queries to these bundles, which lists the bundle of each query.

    Raises ValueError for no bundle, and UnsupportedQuery for features of different encoders.
    """
    if not bundles:
        raise ValueError("one query or more is needed")
    queries = Counter(map(id, bundles))

    def rank(bundle: MemoryBundle) -> tuple[bool, int, int, int, str]:
        manifest = bundle.manifest
        _, height, width = manifest.network_shape
        steps = manifest.retraining.steps
        return manifest.space != "features", -height * width, -queries[id(bundle)], -steps, manifest.name

    different = sorted({id(bundle): bundle for bundle in bundles}.values(), key=rank)
    _check_one_encoder(different)
    leading = different[0].manifest
    channels, height, width = leading.network_shape
    if leading.space == "pixels":
        channels = max(bundle.memory.image_shape[0] for bundle in different)
    allowed = common_augmentation(each.manifest.retraining.augmentation for each in different)
    return SharedFormat(
        bundles=tuple(different),
        image_shape=(channels, height, width),
        rows=max(bundle.memory.rows for bundle in different),
        retraining=different[0].manifest.retraining.model_copy(
            update={"augmentation": allowed}
            | ({"initial": "random", "loss": "cross_entropy"} if len(different) > 1 else {})
        ),
    )


def build_training_set(queries: Sequence[BundleQuery]) -> TrainingSet:
    """The training set of all that these queries recall, in their order. ValueError for none."""
    shared = shared_format([query.bundle for query in queries])
    encoder = next((query.encoder for query in queries if query.encoder is not None), None)
    with torch.no_grad():
        if any(map(holds_head, shared.bundles)):
            return _of_heads(queries, shared, encoder)
        if len(shared.bundles) == 1:
            bundle = shared.bundles[0]
            vectors = torch.stack([query.vector for query in queries])
            return TrainingSet(*bundle.recall(vectors), bundle.preprocessing, shared.retraining, queries[0].pretrained)
        pixels = torch.stack([_rows(_pixels(query, encoder), shared) for query in queries])  # [k, r, C, H, W]
        preprocessing = _model_space(pixels.flatten(0, 1), shared)
        images = preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels)
    return TrainingSet(images, torch.eye(len(images)).unsqueeze(1), preprocessing, shared.retraining)


def _of_heads(queries: Sequence[BundleQuery], shared: SharedFormat, encoder: QueryEncoder | None) -> TrainingSet:
    """What gives the joined head in one step, where memories hold one."""
    groups, sources = by_bundle([query.bundle for query in queries]), []
    for bundle, chosen in groups:
        if holds_head(bundle):
            sources.append(head_source(bundle, torch.stack([queries[at].vector for at in chosen])))
            continue
        rows = [_pixels(queries[at], encoder).flatten(1) for at in chosen]
        labels = torch.arange(len(rows)).repeat_interleave(torch.tensor([len(each) for each in rows]))
        sources.append(HeadSource(torch.cat(rows), labels, len(rows)))
    head = in_order(head_of(sources), [chosen for _, chosen in groups])
    space = next(bundle.preprocessing for bundle in shared.bundles if holds_head(bundle))
    assert isinstance(space, Standardise), "holds_head has seen to that"
    step = training_step(head, space)
    images = step.vectors[:, None, :, None, None]
    return TrainingSet(images, torch.eye(len(queries)).unsqueeze(1), step.preprocessing, step.retraining)


def crop_and_resize(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images [N, c, h, w] in pixel space -> [N, C, H, W], cropped and resized as by `pictures.decode`.

    The map is linear. Raises ValueError for colour that would become grey.
    """
    channels, height, width = image_shape
    if pixels.shape[1] not in (1, channels):
        raise ValueError(f"images of {pixels.shape[1]} channels cannot become images of {channels}")
    across = max(1, min(pixels.shape[3], round(pixels.shape[2] * width / height)))
    down = max(1, min(pixels.shape[2], round(pixels.shape[3] * height / width)))
    top, left = (pixels.shape[2] - down) // 2, (pixels.shape[3] - across) // 2
    cropped = pixels[:, :, top : top + down, left : left + across].expand(-1, channels, -1, -1)
    if (down, across) == (height, width):
        return cropped
    return interpolate(cropped, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _pixels(query: BundleQuery, encoder: QueryEncoder | None) -> Tensor:
    """All rows of one query: images [r, c, h, w] in pixel space or, with an encoder, its features [r, D, 1, 1]."""
    bundle = query.bundle
    pixels = bundle.recall_pixels(query.vector.unsqueeze(0))[0]
    if encoder is None or bundle.manifest.space == "features":
        return pixels
    pictures = crop_and_resize(pixels, encoder.image_shape).clamp(0, 1)
    return torch.from_numpy(encoder.encode(pictures.contiguous().numpy()))[:, :, None, None]


def _rows(pixels: Tensor, shared: SharedFormat) -> Tensor:
    """The rows in the common size, repeated in turn up to the common number."""
    return crop_and_resize(pixels, shared.image_shape)[torch.arange(shared.rows) % len(pixels)]


def _check_one_encoder(bundles: Sequence[MemoryBundle]) -> None:
    encoders = {each.manifest.feature_encoder.sha256: each for each in bundles if each.manifest.feature_encoder}
    if len(encoders) > 1:
        names = " and ".join(bundle.manifest.name for bundle in encoders.values())
        raise UnsupportedQuery(
            f"the memories {names} hold features of different encoders, which cannot be told apart by one classifier; "
            "ask for labels of one of them"
        )


def _model_space(pixels: Tensor, shared: SharedFormat) -> AbstractPreprocessing:
    if shared.feature_encoder is not None:
        return shared.bundles[0].preprocessing  # a few vectors say too little of how features vary
    standard, leading = Standardise.fit(pixels), shared.bundles[0].preprocessing
    if not isinstance(leading, Projected) or not all(map(_is_projected, shared.bundles)):
        return standard
    spans = [crop_and_resize(_span(bundle), shared.image_shape) for bundle in shared.bundles]
    return Projected.onto(standard.to_model(torch.cat(spans)), standard, leading.rest)


def _is_projected(bundle: MemoryBundle) -> bool:
    return isinstance(bundle.preprocessing, Projected)


def _span(bundle: MemoryBundle) -> Tensor:
    """Images in pixel space that span all that a memory of bases recalls: its bases, and the recall of a zero query."""
    bases = bundle.memory.span()
    return bundle.preprocessing.to_pixels(torch.cat([bases, torch.zeros_like(bases[:1])]))
