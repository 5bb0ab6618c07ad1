"""The interface between the jobs and the workers that train them.

Workers pull jobs when they are idle. A task is bytes, and so is the classifier that comes back, so that a worker may
run in another process or on another machine, with a disk and a clock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, final

from recall_server.jobs.rows.records import JobError, Progress

BackendState = Literal["warming", "ready", "restarting", "failed"]


@final
@dataclass(frozen=True)
class Assignment:
    """One attempt at a job: its task, from `TrainingTask.to_bytes`, and the seconds that it may take."""

    identifier: str
    attempt: int
    task: bytes
    seconds: float


@final
@dataclass(frozen=True)
class WorkerInfo:
    """The state of a worker. `device` is None until it is known, and `pid` while there is no process.

    `node` names the machine of a cluster that it trains on; it is None on the server's own machine. `fault` is why it
    cannot be started, where it never was ready and several attempts failed; else None.
    """

    state: BackendState
    pid: int | None
    device: str | None
    fault: str | None = None
    node: str | None = None


class JobQueue(Protocol):
    """The queue from which workers take jobs, and to which they report. Safe to use from any thread; nothing raises.

    Each assignment ends with one call of `succeeded`, `failed`, `lost` or `returned`, or with a `cancel` of its job.
    Further calls for it change nothing.
    """

    def take(self) -> Assignment | None:
        """Claim the job that has waited longest; None if no job waits."""

    def progressed(self, assignment: Assignment, progress: Progress) -> bool:
        """Report progress. Returns False if nobody wants the result; the worker then stops without a report."""

    def succeeded(self, assignment: Assignment, classifier: bytes, seconds: float) -> None:
        """Hand over the file of the classifier, whose training took `seconds`."""

    def failed(self, assignment: Assignment, error: JobError) -> None:
        """Report a failure that another attempt would not change."""

    def lost(self, assignment: Assignment, reason: str) -> None:
        """Report that the worker died; another attempt may succeed."""

    def returned(self, assignment: Assignment) -> None:
        """Return the job unfinished, because the backend stops. The attempt does not count as lost."""


class Backend(Protocol):
    """Workers outside the process that answers requests."""

    def start(self, queue: JobQueue) -> None:
        """Start the workers in the background, and take jobs once they are ready. Returns at once."""

    def wake(self) -> None:
        """Let an idle worker look for a new job now."""

    def cancel(self, identifier: str) -> None:
        """Stop the job if a worker has it. At most, it is reported as `returned`."""

    @property
    def state(self) -> BackendState:
        """ready: a worker is warm; warming: none was warm yet; restarting: lost ones are being replaced."""

    @property
    def device(self) -> str | None:
        """The devices that the workers train on; None until one is known."""

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """All workers, dead or alive: one for each job that can be trained at the same time."""

    def stop(self) -> None:
        """End all workers and return their jobs. Returns once no process is left."""
