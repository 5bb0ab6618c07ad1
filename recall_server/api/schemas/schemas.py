"""The JSON of requests and answers."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from recall_server.core.io.pictures import encode_png
from recall_server.jobs.rows.records import (
    BundleIdentity,
    ImageSize,
)
from recall_server.library.names import LONGEST_NAME
from recall_server.recall.addressing import Addressing
from recall_server.recall.recalled import PerLabel, Recalled, RecalledQuery
from recall_server.service.requests import RecallOptions

LARGEST_SEED = 2**63 - 1
MOST_QUERIES = 10_000  # of one recall; the table of targets grows with their square
MOST_WEIGHTS = 1000  # labels of one mixture
LONGEST_VECTOR = 100_000

OUT_OF_SET = "novelty: the share of known pictures that are closer to the memory's classes; null without a scorer"

CARD = "text/markdown; charset=utf-8"
MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"description": "the card", "content": {"text/markdown": {"schema": {"type": "string"}}}}
}

# Lengths are checked before items, and validation stops at the first fault: reporting a million faults takes seconds.
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Names = Annotated[list[Name], Field(max_length=MOST_QUERIES, fail_fast=True)]
Vector = Annotated[list[float], Field(max_length=LONGEST_VECTOR, fail_fast=True)]
Mixture = Annotated[dict[Name, float], Field(max_length=MOST_WEIGHTS)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
BundleName = Annotated[str, Field(max_length=100)]
RecallFormat = Literal["json", "png", "safetensors"]


def png_uri(image: NDArray[np.float32]) -> str:
    """Pixels [C, H, W] as a data URI of an 8-bit PNG."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


class RequestModel(BaseModel):
    """Part of a request. Unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RecallParameters(RequestModel):
    """The options of a recall: the number of images per query, the seed, the format, the bundle."""

    per_label: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        None, description="images per query; default: 10, or all if the memory has fewer"
    )
    seed: Seed | None = Field(None, description="seed for drawing rows at random; default: the first rows")
    format: RecallFormat | None = Field(None, description="overrides the header Accept")
    bundle: BundleName | None = Field(None, description="look up names in this bundle only")

    def options(self) -> RecallOptions:
        per_label: PerLabel = self.per_label
        return RecallOptions(bundle=self.bundle, per_label=per_label, seed=self.seed)


class LabelRecallParameters(RecallParameters):
    labels: list[str] = Field(
        description="labels, groups or aliases, separated by commas or repeated; `bundle:label` selects a bundle"
    )

    strict: bool = Field(False, description="refuse a name that several bundles know, instead of choosing one")

    def options(self) -> RecallOptions:
        return replace(super().options(), strict=self.strict)

    def names(self) -> list[str]:
        return [name for text in self.labels for name in text.split(",")]


class RecallBody(RequestModel):
    """Exactly one of `mixtures` (weights by label) and `vectors` (query vectors)."""

    mixtures: Annotated[list[Mixture], Field(max_length=MOST_QUERIES, fail_fast=True)] | None = None
    vectors: Annotated[list[Vector], Field(max_length=MOST_QUERIES, fail_fast=True)] | None = None


class ClassifierParameters(RequestModel):
    seed: Seed | None = Field(None, description="default: 0")
    bundle: BundleName | None = Field(None, description="the bundle to train from, if several are possible")


class TrainParameters(ClassifierParameters):
    addressing: Addressing | None = Field(None, description="how pictures are used; default: auto")
    own_pictures: bool | None = Field(
        None,
        description="whether the pictures are training data too; default: true",
    )
    labels: list[str] | None = Field(
        None, description="with pictures: further classes, labels of memories of features, by commas or repeated"
    )

    def names(self) -> list[str]:
        return [name for text in self.labels or () for name in text.split(",")]


class LabelsBody(ClassifierParameters):
    labels: Names = Field(description="labels, groups or aliases; `bundle:label` selects a bundle")
    strict: bool = Field(False, description="refuse a name that several bundles know, instead of choosing one")


class RecalledEntry(BaseModel):
    """The answer to one query. `rows` are the recalled rows of the memory, `images` 8-bit PNGs as data URIs.

    A memory of features recalls `features`, one vector per row, and no `images`; `image` is then the size of pictures
    for its encoder.
    """

    name: str
    bundle: str
    target: dict[str, float]
    rows: list[int]
    out_of_set: float | None = Field(description=OUT_OF_SET)
    other_bundles: list[str] = Field(description="other bundles that know the name; `bundle:label` selects one")
    image: ImageSize
    images: list[str]
    features: list[list[float]] | None = None

    @classmethod
    def of(cls, recalled: RecalledQuery) -> RecalledEntry:
        channels, height, width = recalled.query.loaded.bundle.manifest.image.shape
        features = recalled.images.tolist() if recalled.images.ndim == 2 else None
        return cls(
            name=recalled.query.name,
            bundle=recalled.query.loaded.name,
            target=recalled.query.target,
            rows=list(recalled.rows),
            out_of_set=recalled.query.out_of_set,
            other_bundles=list(recalled.query.other_bundles),
            image=ImageSize(channels=channels, height=height, width=width),
            images=[] if features is not None else [png_uri(image) for image in recalled.images],
            features=features,
        )


class RecallAnswer(BaseModel):
    seed: int | None
    bundles: list[BundleIdentity]
    recalled: list[RecalledEntry]

    @classmethod
    def of(cls, recalled: Recalled) -> RecallAnswer:
        return cls(
            seed=recalled.seed,
            bundles=[BundleIdentity(name=loaded.name, sha256=loaded.sha256) for loaded in recalled.bundles],
            recalled=[RecalledEntry.of(query) for query in recalled.queries],
        )
