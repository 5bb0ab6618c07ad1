"""The training processes of this machine."""

from __future__ import annotations

import os
from typing import final

import torch

from recall_server.jobs.workers.backend import BackendState, JobQueue, WorkerInfo
from recall_server.jobs.workers.supervisor import WorkerSupervisor

BEST_FIRST: tuple[BackendState, ...] = ("ready", "restarting", "warming", "failed")


@final
class LocalBackend:
    """A pool of warm processes.

    `device` is "auto" (CUDA if torch can use it), "cpu", "cuda", or one of torch's names such as "cuda:1". With
    `workers` 0 there is one for each CUDA device, or one on the CPU; more workers than CUDA devices share them in turn.
    `threads` is the number for each process; with 0 the processes divide the cores among them.
    """

    def __init__(self, *, device: str = "auto", threads: int = 0, workers: int = 1) -> None:
        devices = _devices(device, workers)
        if not threads and len(devices) > 1:
            threads = max(1, (os.cpu_count() or 1) // len(devices))
        self._supervisors = [WorkerSupervisor(f"training-{index}", name, threads) for index, name in enumerate(devices)]

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


def _devices(device: str, workers: int) -> list[str]:
    """The name of each worker's device."""
    if device in ("auto", "cuda"):
        found = torch.cuda.device_count()
        names = [f"cuda:{index}" for index in range(found)] or ["cpu" if device == "auto" else "cuda"]
    else:
        names = [device]
    return [names[index % len(names)] for index in range(workers or len(names))]
