"""Published accuracies of methods, each with its source.

The figures are in `published.json`. They were measured by the protocols of their papers, which differ in the width and
the loss of the networks, augmentation, whitening, and whether the best of several test accuracies counts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

FILE = Path(__file__).with_name("published.json")
SMALL = "-small"  # suffix of methods that are reduced to fit two processor cores

Percent = Annotated[float, Field(ge=0, le=100)]


class Entry(BaseModel):
    """The figures of one method from one source: accuracy in percent by data set and images per class."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    source: str
    accuracies: dict[str, dict[float, Percent]]


class Published(NamedTuple):
    """An accuracy in percent, and its source."""

    accuracy: float
    source: str


@cache
def entries() -> dict[str, Entry]:
    """All entries by method. Raises ValueError for two entries of one method."""
    found = TypeAdapter(list[Entry]).validate_json(FILE.read_bytes())
    by_method = {entry.method: entry for entry in found}
    if len(by_method) < len(found):
        raise ValueError(f"{FILE.name} has two entries of one method")
    return by_method


def published(method: str, dataset: str, images_per_class: float) -> Published | None:
    """The figure for this cell, or None. A small setting has the figure of the authors' own setting."""
    entry = entries().get(method.removesuffix(SMALL))
    if entry is None:
        return None
    accuracy = entry.accuracies.get(dataset, {}).get(images_per_class)
    return None if accuracy is None else Published(accuracy, entry.source)
