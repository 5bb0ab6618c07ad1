"""Images of several memories as one training set: they meet in pixel space, as if each were a picture that comes in.

What must be common, and where it comes from (`shared_format` decides it before anything is recalled):

* the size, from the bundle with the largest images; the others are cut to its proportions around the centre and
  resized with an antialiasing filter, which is what happens to pictures that somebody sends;
* the channels: colour where any bundle has colour, and grey is repeated in all three;
* the rows: as many as the memory with most recalls for each query; those of the others are repeated in turn, so that
  every class is seen equally often in every minibatch;
* the schedule: that of the bundle with the largest images; among several, of the one that most queries go to, then
  the longest. It is augmented only as every one of the bundles allows, and networks begin at random;
* the model space: standardised by what was recalled, and projected on the bases of all memories where each of them
  asks for that of its own, or what only one memory can recall would give its classes away.

Queries to one bundle meet in its own model space, by its own schedule and with its own targets: nothing changes.
Stored targets exist only within a bundle; across bundles every query is a class alone.
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
from recall_server.core.networks import Parameters
from recall_server.core.preprocessing import AbstractPreprocessing, Projected, Standardise
from recall_server.core.training.augmentation import AUGMENTATIONS
from recall_server.core.training.retraining import Retraining


@final
@dataclass(frozen=True, eq=False)
class BundleQuery:
    """One query vector [d_y] to one memory; `learned` are the layers that its classifiers begin with, if with any."""

    bundle: MemoryBundle
    vector: Tensor
    pretrained: Parameters | None = None


@final
@dataclass(frozen=True, eq=False)
class SharedFormat:
    """What images of these bundles will have in common. `bundles` are all, each once, the one that leads first."""

    bundles: tuple[MemoryBundle, ...]
    image_shape: tuple[int, int, int]
    rows: int
    retraining: Retraining


@final
@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images [k, r, C, H, W] of k queries in the model space of `preprocessing`, and how to train on them.

    Each query is a class of its own; `targets` [k, r, k] are those of its images, [k, 1, k] where all share one.
    `pretrained` are the layers that networks begin with, where `retraining` asks for some.
    """

    images: Tensor
    targets: Tensor
    preprocessing: AbstractPreprocessing
    retraining: Retraining
    pretrained: Parameters | None = None


def shared_format(bundles: Sequence[MemoryBundle]) -> SharedFormat:
    """Where queries to these bundles, one for each query, meet; ValueError for none."""
    if not bundles:
        raise ValueError("one query or more is needed")
    asked = Counter(map(id, bundles))

    def rank(bundle: MemoryBundle) -> tuple[int, int, int, str]:
        _, height, width = bundle.memory.image_shape
        return -height * width, -asked[id(bundle)], -bundle.manifest.retraining.steps, bundle.manifest.name

    different = sorted({id(bundle): bundle for bundle in bundles}.values(), key=rank)
    _, height, width = different[0].memory.image_shape
    allowed = min((each.manifest.retraining.augmentation for each in different), key=lambda it: len(AUGMENTATIONS[it]))
    return SharedFormat(
        bundles=tuple(different),
        image_shape=(max(bundle.memory.image_shape[0] for bundle in different), height, width),
        rows=max(bundle.memory.rows for bundle in different),
        retraining=different[0].manifest.retraining.model_copy(
            update={"augmentation": allowed}
            | ({"initial": "random", "loss": "cross_entropy"} if len(different) > 1 else {})
        ),
    )


def build_training_set(queries: Sequence[BundleQuery]) -> TrainingSet:
    """Everything that these queries recall, in their order; ValueError for none."""
    place = shared_format([query.bundle for query in queries])
    with torch.no_grad():
        if len(place.bundles) == 1:
            bundle = place.bundles[0]
            vectors = torch.stack([query.vector for query in queries])
            images, targets = bundle.memory.recall(vectors)
            return TrainingSet(images, targets, bundle.preprocessing, place.retraining, queries[0].pretrained)
        pixels = torch.stack([_rows(_pixels(query), place) for query in queries])  # [k, r, C, H, W]
        preprocessing = _model_space(pixels.flatten(0, 1), place)
        images = preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels)
    return TrainingSet(images, torch.eye(len(images)).unsqueeze(1), preprocessing, place.retraining)


def as_pictures(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images [N, c, h, w] in pixel space -> [N, C, H, W], cut and resized as `pictures.decode` does; linear.

    ValueError for colour that would become grey.
    """
    channels, height, width = image_shape
    if pixels.shape[1] not in (1, channels):
        raise ValueError(f"images of {pixels.shape[1]} channels do not become images of {channels}")
    across = max(1, min(pixels.shape[3], round(pixels.shape[2] * width / height)))
    down = max(1, min(pixels.shape[2], round(pixels.shape[3] * height / width)))
    top, left = (pixels.shape[2] - down) // 2, (pixels.shape[3] - across) // 2
    cut = pixels[:, :, top : top + down, left : left + across].expand(-1, channels, -1, -1)
    if (down, across) == (height, width):
        return cut
    return interpolate(cut, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _pixels(query: BundleQuery) -> Tensor:
    """All rows [r, c, h, w] of one query."""
    images = query.bundle.memory.items(query.vector.unsqueeze(0))[0]
    return query.bundle.preprocessing.to_pixels(images)


def _rows(pixels: Tensor, place: SharedFormat) -> Tensor:
    """As many rows as all have, of the common size."""
    return as_pictures(pixels, place.image_shape)[torch.arange(place.rows) % len(pixels)]


def _model_space(pixels: Tensor, place: SharedFormat) -> AbstractPreprocessing:
    standard, leading = Standardise.fit(pixels), place.bundles[0].preprocessing
    if not isinstance(leading, Projected) or not all(map(_is_projected, place.bundles)):
        return standard
    spans = [as_pictures(_span(bundle), place.image_shape) for bundle in place.bundles]
    return Projected.onto(standard.to_model(torch.cat(spans)), standard, leading.rest)


def _is_projected(bundle: MemoryBundle) -> bool:
    return isinstance(bundle.preprocessing, Projected)


def _span(bundle: MemoryBundle) -> Tensor:
    """Images in pixel space, of which all that a memory of bases recalls is made: the bases, and a query of zeros."""
    bases = bundle.memory.span()
    return bundle.preprocessing.to_pixels(torch.cat([bases, torch.zeros_like(bases[:1])]))
