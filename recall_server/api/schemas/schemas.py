"""The JSON of requests and answers."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from recall_server.api.http.problems import problem_type
from recall_server.core.classifier.expected_accuracy import Quality
from recall_server.core.io.pictures import encode_png
from recall_server.jobs.rows.records import (
    BundleIdentity,
    ClassifierRecord,
    Event,
    FinishedFile,
    ImageSize,
    JobError,
    JobStatus,
    Progress,
)
from recall_server.library.names import LONGEST_NAME
from recall_server.recall.addressing import Addressing
from recall_server.recall.recalled import PerLabel, Recalled, RecalledQuery
from recall_server.service.predictions import Prediction
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


class JobProblem(BaseModel):
    """Why a job failed, with the type and title of a problem document."""

    type: str
    title: str
    detail: str

    @classmethod
    def of(cls, error: JobError) -> JobProblem:
        known = problem_type(error.kind)
        return cls(type=known.uri, title=known.title, detail=error.detail)


class ClassifierAnswer(BaseModel):
    """A training request and its result."""

    id: str
    status: JobStatus
    is_terminal: bool
    labels: list[str]
    bundle: BundleIdentity = Field(description="the bundle whose training schedule is used")
    bundles: list[BundleIdentity] = Field(description="all bundles of its classes, in the order of the classes")
    queries: Literal["labels", "images"]
    addressing: Literal["images", "classify", "prototypes"] | None = Field(description="how pictures were used")
    pictures: dict[str, int] | None
    out_of_set: dict[str, float] | None = Field(description=OUT_OF_SET)
    image: ImageSize
    network: str
    seed: int
    quality: Quality | None = Field(description="expected accuracy; null if it cannot be estimated")
    notes: list[str] = Field(description="caveats, one sentence each")
    attempt: int
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    seconds: float | None
    stages: dict[str, float] | None = Field(description="seconds by stage; null before the end")
    file: FinishedFile | None
    error: JobProblem | None
    links: dict[str, str]

    @classmethod
    def of(cls, record: ClassifierRecord) -> ClassifierAnswer:
        self_link = classifier_path(record.id)
        fields: dict[str, Any] = dict(record)
        fields |= {"labels": list(record.labels), "bundles": list(record.bundles), "notes": list(record.notes)}
        fields["is_terminal"] = record.status.is_terminal
        fields["stages"] = record.stages
        fields["error"] = None if record.error is None else JobProblem.of(record.error)
        fields["links"] = {"self": self_link} | {
            name: f"{self_link}/{name}" for name in ("predict", "events", "cancel", "download", "card")
        }
        return cls(**fields)


class ClassifierList(BaseModel):
    """A page, newest first. `next` is the cursor of the next page, null on the last one."""

    classifiers: list[ClassifierAnswer]
    next: str | None


class EventAnswer(BaseModel):
    """An event of a training. `number` counts from 1."""

    number: int
    at: AwareDatetime
    kind: Literal["status", "progress"]
    status: JobStatus
    progress: Progress | None
    error: JobProblem | None

    @classmethod
    def of(cls, event: Event) -> EventAnswer:
        return cls(
            number=event.number,
            at=event.at,
            kind=event.kind,
            status=event.status,
            progress=event.progress,
            error=None if event.error is None else JobProblem.of(event.error),
        )


class EventPage(BaseModel):
    """Events in order. The next page is `?after=` with the number of the last one."""

    events: list[EventAnswer]


class PredictionEntry(BaseModel):
    """The prediction for one picture. `by` is present if prototypes answered instead of a trained network."""

    label: str
    by: Literal["prototypes"] | None = None
    probabilities: dict[str, float]

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionEntry:
        by: Literal["prototypes"] | None = "prototypes" if prediction.by == "prototypes" else None
        return cls(label=prediction.label, by=by, probabilities=prediction.probabilities)


class Predictions(BaseModel):
    predictions: list[PredictionEntry]


def classifier_path(identifier: str) -> str:
    return f"/classifier/{identifier}"
