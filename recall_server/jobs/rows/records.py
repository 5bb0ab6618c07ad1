"""What is known of one training request, from the moment it is accepted: immutable, and plain JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from recall_server.core.classifier.expected_accuracy import Quality


class JobStatus(StrEnum):
    """queued -> running -> succeeded | failed | cancelled; back to queued where a worker or a server was lost."""

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
    """A part of a record: immutable, with no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BundleIdentity(Record):
    """Which bundle, exactly: the name may be given to another file tomorrow, the digest may not."""

    name: str
    sha256: str


class ImageSize(Record):
    channels: int
    height: int
    width: int


class Progress(Record):
    """`done` of `total` training steps, and the loss of the latest, where it is known."""

    done: int
    total: int
    loss: float | None = None


class FinishedFile(Record):
    """The classifier's safetensors file."""

    bytes: int
    sha256: str


class JobError(Record):
    """Why a job failed: the name of a class of `recall_server.errors`, and one sentence for the caller."""

    kind: str
    detail: str


class ClassifierRecord(Record):
    """One training request and what became of it. Times are UTC; `seconds` is the time the training itself took.

    `bundle` is the one by whose schedule it is trained, `bundles` all that its classes are of, in the order asked for.
    `notes` are sentences that whoever relies on the classifier should know, `addressing` is how pictures were used.
    `out_of_set` says of each class how far its pictures are from what the memory knows, 0 to 1, where that is known.
    `pictures` counts what was sent per class, where the request was made of pictures. `quality` is an estimate made as
    the request was accepted, and `preparation` the seconds that it took until then, by stage. `attempt` counts from 1;
    it rises when a worker or a server is lost and the training begins anew.
    """

    id: str
    status: JobStatus = JobStatus.QUEUED
    labels: tuple[str, ...]
    bundle: BundleIdentity
    bundles: tuple[BundleIdentity, ...]
    queries: Literal["labels", "images"]
    addressing: Literal["images", "classify", "prototypes"] | None = None
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
        """Where the time went, in seconds by stage and in their order, once it has ended; None before.

        `queued` ends where the attempt begins that came to the end, so that earlier attempts are within it;
        `transferring` is the way of the task to the worker and of the classifier back to the disk.
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
    """Something that happened to a job; they are numbered 1, 2, ... per job.

    The `error` of one that is back in the queue says what its last attempt came to.
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
    """The job that answers a request, and whether it was made for it or was there before."""

    record: ClassifierRecord
    created: bool


class Page(Record):
    """Records, newest first, and the cursor of those that come after them; None where these are the last."""

    records: tuple[ClassifierRecord, ...]
    next: str | None = None


def now() -> datetime:
    """The time that records carry."""
    return datetime.now(UTC)
