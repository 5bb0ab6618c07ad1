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
MOST_QUERIES = 10_000  # of one recall: its table of targets grows with their square
MOST_WEIGHTS = 1000  # labels of one mixture
LONGEST_VECTOR = 100_000

OUT_OF_SET = "the share of known pictures that are nearer to what the memory knows; null where that is not known"

CARD = "text/markdown; charset=utf-8"
MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"description": "the card", "content": {"text/markdown": {"schema": {"type": "string"}}}}
}

# Lengths are checked before the items are, and the first fault ends the validation: a million faults take seconds.
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
    """Something a caller sends: a name that is not known is a mistake, and said so."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RecallParameters(RequestModel):
    """The options of a recall: how many images for each query, drawn how, sent as what."""

    per_label: Annotated[int, Field(ge=1)] | Literal["all"] | None = Field(
        None, description="images for each query; 10 if not given, or all where a memory has fewer"
    )
    seed: Seed | None = Field(None, description="draw the rows with this seed; without it the first rows are taken")
    format: RecallFormat | None = Field(None, description="wins over the header Accept")
    bundle: BundleName | None = Field(None, description="look names up in this bundle only")

    def options(self) -> RecallOptions:
        per_label: PerLabel = self.per_label
        return RecallOptions(bundle=self.bundle, per_label=per_label, seed=self.seed)


class LabelRecallParameters(RecallParameters):
    labels: list[str] = Field(
        description="by commas, or repeated: labels, groups, aliases; `bundle:label` where two bundles know it"
    )

    strict: bool = Field(False, description="refuse a name that several bundles know instead of choosing one")

    def options(self) -> RecallOptions:
        return replace(super().options(), strict=self.strict)

    def names(self) -> list[str]:
        return [name for text in self.labels for name in text.split(",")]


class RecallBody(RequestModel):
    """Exactly one of mixtures (weights of labels) and vectors (raw queries)."""

    mixtures: Annotated[list[Mixture], Field(max_length=MOST_QUERIES, fail_fast=True)] | None = None
    vectors: Annotated[list[Vector], Field(max_length=MOST_QUERIES, fail_fast=True)] | None = None


class ClassifierParameters(RequestModel):
    seed: Seed | None = Field(None, description="0 if not given")
    bundle: BundleName | None = Field(None, description="the bundle to train from, where several could be meant")


class TrainParameters(ClassifierParameters):
    addressing: Addressing | None = Field(None, description="how pictures are used; auto if not given")
    own_pictures: bool | None = Field(
        None,
        description="whether a classifier learns from the pictures too; it does if not given",
    )


class LabelsBody(ClassifierParameters):
    labels: Names = Field(description="labels, groups and aliases; `bundle:label` where two bundles know it")
    strict: bool = Field(False, description="refuse a name that several bundles know instead of choosing one")


class RecalledEntry(BaseModel):
    """What one query recalled. `rows` are rows of the memory; the images are 8-bit PNGs as data URIs.

    A memory of features recalls `features`, one vector a row, and no `images`; `image` is then what its encoder takes.
    """

    name: str
    bundle: str
    target: dict[str, float]
    rows: list[int]
    out_of_set: float | None = Field(description=OUT_OF_SET)
    other_bundles: list[str] = Field(description="further bundles that know the name; `bundle:label` asks for theirs")
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
    """Why a job failed, in the words of a problem document."""

    type: str
    title: str
    detail: str

    @classmethod
    def of(cls, error: JobError) -> JobProblem:
        known = problem_type(error.kind)
        return cls(type=known.uri, title=known.title, detail=error.detail)


class ClassifierAnswer(BaseModel):
    """A training request and what became of it."""

    id: str
    status: JobStatus
    is_terminal: bool
    labels: list[str]
    bundle: BundleIdentity = Field(description="by whose schedule it is trained")
    bundles: list[BundleIdentity] = Field(description="all that its classes are of, in the order asked for")
    queries: Literal["labels", "images"]
    addressing: Literal["images", "classify", "prototypes"] | None = Field(description="how pictures were used")
    pictures: dict[str, int] | None
    out_of_set: dict[str, float] | None = Field(description=OUT_OF_SET)
    image: ImageSize
    network: str
    seed: int
    quality: Quality | None = Field(description="how good it is likely to be; null where nothing is known of that")
    notes: list[str] = Field(description="sentences that whoever relies on it should know")
    attempt: int
    progress: Progress | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    seconds: float | None
    stages: dict[str, float] | None = Field(description="seconds by stage, once it has ended")
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
    """A page, newest first. `next` is the cursor of the page after it; null where this is the last."""

    classifiers: list[ClassifierAnswer]
    next: str | None


class EventAnswer(BaseModel):
    """Something that happened to a training; `number` counts from 1 within one training."""

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
    """Events in order; the page after it is `?after=` and the number of the last."""

    events: list[EventAnswer]


class PredictionEntry(BaseModel):
    """The prediction of one picture. `by` is present where prototypes answered instead of a trained network."""

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
