"""Who trains: the interface between the jobs and whatever runs them.

Workers take jobs when they have time for them; nobody pushes. A task goes out as bytes and a classifier comes back as
bytes, so that a worker may live in another process or on another machine, with a disk and a clock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, final

from recall_server.jobs.rows.records import JobError, Progress

BackendState = Literal["warming", "ready", "restarting", "failed"]


@final
@dataclass(frozen=True)
class Assignment:
    """One attempt at one job: `TrainingTask.to_bytes()`, and how many seconds it may take."""

    identifier: str
    attempt: int
    task: bytes
    seconds: float


@final
@dataclass(frozen=True)
class WorkerInfo:
    """`device` is what it really trains on; None while that is not known yet, as is `pid` where there is no process."""

    state: BackendState
    pid: int | None
    device: str | None


class JobQueue(Protocol):
    """Where workers get jobs from, and say what becomes of them. Safe to use from any thread; nothing raises.

    Each assignment that was taken ends with one call of `succeeded`, `failed`, `lost` or `returned`, or by `cancel`,
    after which none of them changes anything.
    """

    def take(self) -> Assignment | None:
        """The job that waits longest, now in the caller's hands; None where none waits."""

    def progressed(self, assignment: Assignment, progress: Progress) -> bool:
        """So many steps are done. False where nobody wants the result any more: stop, without another word."""

    def succeeded(self, assignment: Assignment, classifier: bytes, seconds: float) -> None:
        """The file of the trained classifier; training took `seconds`."""

    def failed(self, assignment: Assignment, error: JobError) -> None:
        """There will be no classifier, and another attempt would not change that."""

    def lost(self, assignment: Assignment, reason: str) -> None:
        """The worker died in the middle; another attempt may go better."""

    def returned(self, assignment: Assignment) -> None:
        """The backend was stopped before it finished; the job is none the worse for it."""


class Backend(Protocol):
    """Workers, away from the process that answers requests."""

    def start(self, source: JobQueue) -> None:
        """Get ready in the background and take jobs from then on; returns at once."""

    def wake(self) -> None:
        """There is a new job: let an idle worker look now rather than in a while."""

    def cancel(self, identifier: str) -> None:
        """Stop the job if a worker has it; at most, the source is told that it was `returned`."""

    @property
    def state(self) -> BackendState:
        """ready: a worker is; warming: none for the first time; restarting: lost ones are being replaced."""

    @property
    def device(self) -> str | None:
        """What the workers really train on; None while that is not known yet."""

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """All of them, dead or alive: there is one for each job that can be trained at a time."""

    def stop(self) -> None:
        """End all workers and return what they had; comes back when no process is left."""
