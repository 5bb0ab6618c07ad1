"""Creates the manifest of a memory: values that follow from its tensors are filled in, the others are given."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from recall_server import __version__
from recall_server.core.bundle.manifest import (
    Budget,
    ImageDescription,
    Manifest,
    MemoryDescription,
    Provenance,
    first_fault,
)
from recall_server.core.memory import AbstractMemory
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining


def describe(
    name: str,
    memory: AbstractMemory,
    preprocessing: AbstractPreprocessing,
    *,
    labels: Sequence[str],
    retraining: Retraining,
    images_per_class: float,
    dataset_bytes: int,
    provenance: Provenance,
    groups: Mapping[str, Sequence[str]] | None = None,
    queries: str = "labels",
    **other: Any,
) -> Manifest:
    """The manifest of this memory. `other` are further keys, such as `image` for a memory of features.

    Raises ValueError, with one sentence, for values that a manifest cannot hold.
    """
    fields = {
        "name": name,
        "memory": MemoryDescription(kind=memory.kind, settings=memory.settings()),
        "queries": queries,
        "labels": tuple(labels),
        "groups": {group: tuple(members) for group, members in (groups or {}).items()},
        "preprocessing": preprocessing.kind,
        "retraining": retraining,
        "provenance": provenance,
    }
    try:
        image = other.pop("image", None) or _image(memory)
        budget = Budget(
            images_per_class=images_per_class,
            numbers_stored=memory.stored_numbers(),
            dataset_bytes=dataset_bytes,
        )
        return Manifest.model_validate(fields | {"image": image, "budget": budget} | other)
    except ValidationError as error:
        raise ValueError(f"a bundle cannot say this: {first_fault(error)}") from error


def _image(memory: AbstractMemory) -> ImageDescription:
    channels, height, width = memory.image_shape
    return ImageDescription(channels=channels, height=height, width=width)


def made_now(**fields: Any) -> Provenance:
    """Provenance of what this code makes today. Raises ValueError, with one sentence, for invalid values."""
    made = {"code_version": __version__, "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    try:
        return Provenance.model_validate(made | fields)
    except ValidationError as error:
        raise ValueError(f"a bundle cannot say this: {first_fault(error)}") from error
