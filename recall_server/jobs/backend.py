"""Who trains: the interface between the jobs and whatever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from recall_server.jobs.records import FinishedFile, JobError, Progress
from recall_server.jobs.task import TrainingTask

BackendState = Literal["warming", "ready", "restarting", "failed"]


class BackendListener(Protocol):
    """Hears what becomes of the jobs, from any thread. Each job ends with one call of `succeeded` or `failed`."""

    def started(self, identifier: str) -> None:
        """A worker has begun."""

    def progressed(self, identifier: str, progress: Progress) -> None:
        """So many steps are done."""

    def succeeded(self, identifier: str, file: FinishedFile, seconds: float) -> None:
        """The classifier is saved where `submit` said; training took `seconds`."""

    def failed(self, identifier: str, error: JobError) -> None:
        """There will be no classifier."""


class Backend(Protocol):
    """Runs training tasks away from the process that answers requests, in the order they came in."""

    def start(self, listener: BackendListener) -> None:
        """Get ready in the background; returns at once."""

    def submit(self, identifier: str, task: TrainingTask, path: Path) -> None:
        """Train `task` when its turn comes and save the classifier at `path`."""

    def cancel(self, identifier: str) -> None:
        """Stop the job if it has not ended, without another word to the listener."""

    @property
    def state(self) -> BackendState:
        """warming: not ready for the first time; restarting: a worker is being replaced and jobs wait for it."""

    @property
    def device(self) -> str | None:
        """What it really trains on; None while that is not known yet."""

    def stop(self) -> None:
        """End all workers, failing what they had; returns when no process is left."""
