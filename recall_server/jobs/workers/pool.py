"""A pool of supervised training processes: the part that all backends share."""

from __future__ import annotations

from collections.abc import Sequence

from recall_server.jobs.workers.backend import BackendState, JobQueue, WorkerInfo
from recall_server.jobs.workers.supervisor import WorkerSupervisor
from recall_server.jobs.workers.worker_process import Main

BEST_FIRST: tuple[BackendState, ...] = ("ready", "restarting", "warming", "failed")


class WorkerPool:
    """A `Backend` of warm processes, one for each of these main functions."""

    def __init__(self, mains: Sequence[Main]) -> None:
        self._supervisors = [WorkerSupervisor(f"training-{index}", main) for index, main in enumerate(mains)]

    @property
    def state(self) -> BackendState:
        states = {worker.state for worker in self.workers}
        return next(state for state in BEST_FIRST if state in states)

    @property
    def device(self) -> str | None:
        return ", ".join(sorted({worker.device for worker in self.workers if worker.device})) or None

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        return tuple(supervisor.info for supervisor in self._supervisors)

    def start(self, queue: JobQueue) -> None:
        for supervisor in self._supervisors:
            supervisor.start(queue)

    def wake(self) -> None:
        for supervisor in self._supervisors:
            supervisor.wake()

    def cancel(self, identifier: str) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel(identifier)

    def stop(self) -> None:
        for supervisor in self._supervisors:
            supervisor.begin_stop()
        for supervisor in self._supervisors:
            supervisor.finish_stop()
