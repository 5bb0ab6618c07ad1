"""The record of a training request: immutable, and plain JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple, final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from recall_server.core.classifier.expected_accuracy import Quality


class JobStatus(StrEnum):
    """queued -> running -> succeeded | failed | cancelled, and back to queued when a worker or a server is lost."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self not in OPEN


OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)


class Record(BaseModel):
    """The base of records and their parts: immutable, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BundleIdentity(Record):
    """The name of a bundle, which may be given to another file later, and the digest of its file."""

    name: str
    sha256: str


class ImageSize(Record):
    channels: int
    height: int
    width: int


class Progress(Record):
    """`done` of `total` training steps, and the latest loss if it is known."""

    done: int
    total: int
    loss: float | None = None


class FinishedFile(Record):
    """Size and SHA-256 of a classifier's file."""

    bytes: int
    sha256: str


class JobError(Record):
    """Why a job failed: the name of a class in `recall_server.errors`, and a sentence for the caller."""

    kind: str
    detail: str


class LeftOut(Record):
    """How many of so many pictures that were left out a way to use pictures got right."""

    right: int
    pictures: int


# How the pictures of a request were used: in pixel space, or in the features of an encoder.
PictureWay = Literal["images", "classify", "prototypes", "pictures", "recalled", "together"]


class ClassifierRecord(Record):
    """A training request and its outcome. Times are in UTC; `seconds` is the duration of the training itself.

    `bundle` is the bundle whose schedule is used, `bundles` are those of all classes, in the order of the request.
    `addressing` is how pictures were used, and `pictures` counts those of each class, if the request had any. `ways`
    are the ways to use them that were compared. Of pictures that no memory helped with, `bundle` is their encoder.
    `out_of_set` gives, for each class for which it is known, how far its pictures are from the memory's data, from 0 to
    1. `notes` are sentences that users of the classifier should read. `quality` is an estimate from the time of the
    request, and `preparation` the seconds spent on the request by stage. `attempt` counts from 1, and rises when a
    worker or a server is lost and the training starts again.
    """

    id: str
    status: JobStatus = JobStatus.QUEUED
    labels: tuple[str, ...]
    bundle: BundleIdentity
    bundles: tuple[BundleIdentity, ...]
    queries: Literal["labels", "images"]
    addressing: PictureWay | None = None
    ways: dict[PictureWay, LeftOut] | None = None
    pictures: dict[str, int] | None = None
    out_of_set: dict[str, float] | None = None
    image: ImageSize
    network: str
    seed: int
    quality: Quality | None = None
    notes: tuple[str, ...] = ()
    preparation: dict[str, float] = {}
    attempt: int = 1
    progress: Progress | None = None
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    seconds: float | None = None
    file: FinishedFile | None = None
    error: JobError | None = None

    @property
    def stages(self) -> dict[str, float] | None:
        """The seconds that each stage took, in order; None until the job has ended.

        `queued` lasts until the last attempt began, and so includes earlier attempts. `transferring` is the time in
        which the task went to the worker and the classifier to the disk.
        """
        if self.finished_at is None:
            return None
        began = self.started_at or self.finished_at
        spent = dict(self.preparation) | {"queued": (began - self.created_at).total_seconds()}
        if self.started_at is not None:
            whole = (self.finished_at - self.started_at).total_seconds()
            spent["training"] = whole if self.seconds is None else self.seconds
            spent["transferring"] = max(0.0, whole - spent["training"])
        return {stage: round(seconds, 4) for stage, seconds in spent.items()}


class Event(Record):
    """A change of a job. The events of a job are numbered from 1.

    The `error` of an event that queues a job again is that of its last attempt.
    """

    number: int
    at: AwareDatetime
    kind: Literal["status", "progress"]
    status: JobStatus
    progress: Progress | None = None
    error: JobError | None = None


@final
@dataclass(frozen=True)
class IdempotencyKey:
    """A key under which a caller may repeat a request. `request` is a digest of what the caller asked for.

    The key belongs to its caller: the same text from another caller is another key.
    """

    caller: str
    text: str
    request: str

    @property
    def digest(self) -> str:
        """Recognises the key, so that neither it nor its caller has to be stored."""
        return hashlib.sha256(json.dumps([self.caller, self.text]).encode()).hexdigest()


class Submitted(Record):
    """The job that answers a request. `created` is False if it existed before."""

    record: ClassifierRecord
    created: bool


class Listed(NamedTuple):
    """A job on a page. `revision` rises with every change of its record."""

    number: int
    id: str
    revision: int


class Page(Record):
    """Jobs, newest first. `next` is the cursor of the next page, or None for the last page."""

    entries: tuple[Listed, ...]
    next: str | None = None


def now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)
