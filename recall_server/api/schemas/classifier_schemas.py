"""The JSON of answers about classifiers: what became of a request, its events, and predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from recall_server.api.http.problems import problem_type
from recall_server.api.schemas.schemas import OUT_OF_SET
from recall_server.core.classifier.expected_accuracy import Quality, wilson_interval
from recall_server.jobs.rows.records import (
    BundleIdentity,
    ClassifierRecord,
    Event,
    FinishedFile,
    ImageSize,
    JobError,
    JobStatus,
    LeftOut,
    PictureWay,
    Progress,
)
from recall_server.service.predictions import Prediction


class JobProblem(BaseModel):
    """Why a job failed, with the type and title of a problem document."""

    type: str
    title: str
    detail: str

    @classmethod
    def of(cls, error: JobError) -> JobProblem:
        known = problem_type(error.kind)
        return cls(type=known.uri, title=known.title, detail=error.detail)


class WayScore(BaseModel):
    """The accuracy of a way to use pictures, 0 to 1, on `pictures` that were left out, with a 95 % interval."""

    accuracy: float
    low: float
    high: float
    pictures: int

    @classmethod
    def of(cls, score: LeftOut) -> WayScore:
        low, high = wilson_interval(score.right, score.pictures)
        return cls(accuracy=score.right / score.pictures, low=low, high=high, pictures=score.pictures)


class ClassifierAnswer(BaseModel):
    """A training request and its result."""

    id: str
    status: JobStatus
    is_terminal: bool
    labels: list[str]
    bundle: BundleIdentity = Field(description="the bundle whose training schedule is used")
    bundles: list[BundleIdentity] = Field(description="all bundles of its classes, in the order of the classes")
    queries: Literal["labels", "images"]
    addressing: PictureWay | None = Field(description="how pictures were used")
    ways: dict[PictureWay, WayScore] | None = Field(
        description="how each way to use the pictures did on pictures left out; null if none was compared"
    )
    pictures: dict[str, int] | None
    out_of_set: dict[str, float] | None = Field(description=OUT_OF_SET)
    image: ImageSize
    network: str
    seed: int
    quality: Quality | None = Field(description="estimated accuracy; null if it cannot be estimated")
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
    def of(cls, record: ClassifierRecord, root: str = "") -> ClassifierAnswer:
        """The answer; its links begin with `root`."""
        self_link = root + classifier_path(record.id)
        fields: dict[str, Any] = dict(record)
        fields |= {"labels": list(record.labels), "bundles": list(record.bundles), "notes": list(record.notes)}
        fields["ways"] = record.ways and {way: WayScore.of(score) for way, score in record.ways.items()}
        fields["is_terminal"] = record.status.is_terminal
        fields["stages"] = record.stages
        fields["error"] = None if record.error is None else JobProblem.of(record.error)
        fields["links"] = {"self": self_link} | {
            name: f"{self_link}/{name}" for name in ("predict", "explain", "events", "cancel", "download", "card")
        }
        return cls(**fields)


class ClassifierList(BaseModel):
    """A page, newest first. `next` is the cursor of the next page, null on the last one."""

    classifiers: list[ClassifierAnswer]
    next: str | None

    @staticmethod
    def json_of(written: Iterable[str], following: str | None) -> bytes:
        """The JSON of a page of classifiers that are written already."""
        return f'{{"classifiers":[{",".join(written)}],"next":{json.dumps(following)}}}'.encode()


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
    """The prediction for one picture. `by` is present if prototypes answered instead of a trained network.

    `familiarity` and `none_of_these` are present if the classifier knows how familiar pictures are.
    """

    label: str
    by: Literal["prototypes"] | None = None
    familiarity: float | None = Field(
        None, description="the chance that it shows one of the classes, as if half of all pictures did"
    )
    none_of_these: bool | None = Field(None, description="whether the familiarity is below `none_below`")
    probabilities: dict[str, float]

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionEntry:
        by: Literal["prototypes"] | None = "prototypes" if prediction.by == "prototypes" else None
        return cls(
            label=prediction.label,
            by=by,
            familiarity=prediction.familiarity,
            none_of_these=prediction.none_of_these,
            probabilities=prediction.probabilities,
        )


class Predictions(BaseModel):
    predictions: list[PredictionEntry]


def classifier_path(identifier: str) -> str:
    return f"/classifier/{identifier}"
