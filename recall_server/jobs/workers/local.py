"""Training processes on this machine, as many as there are devices."""

from __future__ import annotations

import os
from typing import final

import torch

from recall_server.jobs.workers.backend import BackendState, JobQueue, WorkerInfo
from recall_server.jobs.workers.supervisor import WorkerSupervisor

ORDER: tuple[BackendState, ...] = ("ready", "restarting", "warming", "failed")  # the best of them speaks for all


@final
class LocalBackend:
    """A pool of warm processes.

    `device` is "auto" (CUDA where torch can use it), "cpu", "cuda", or one of torch's names such as "cuda:1".
    `workers` 0 starts one for each CUDA device, or one on the CPU; several take the CUDA devices in turn. `threads`
    is of each process; 0 shares out the cores.
    """

    def __init__(self, *, device: str = "auto", threads: int = 0, workers: int = 1) -> None:
        devices = _devices(device, workers)
        if not threads and len(devices) > 1:
            threads = max(1, (os.cpu_count() or 1) // len(devices))
        self._slots = [WorkerSupervisor(f"training-{index}", name, threads) for index, name in enumerate(devices)]

    @property
    def state(self) -> BackendState:
        states = {worker.state for worker in self.workers}
        return next(state for state in ORDER if state in states)

    @property
    def device(self) -> str | None:
        return ", ".join(sorted({worker.device for worker in self.workers if worker.device})) or None

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        return tuple(slot.info for slot in self._slots)

    def start(self, source: JobQueue) -> None:
        for slot in self._slots:
            slot.start(source)

    def wake(self) -> None:
        for slot in self._slots:
            slot.wake()

    def cancel(self, identifier: str) -> None:
        for slot in self._slots:
            slot.cancel(identifier)

    def stop(self) -> None:
        for slot in self._slots:
            slot.begin_stop()
        for slot in self._slots:
            slot.finish_stop()


def _devices(device: str, workers: int) -> list[str]:
    """The device of each worker."""
    if device in ("auto", "cuda"):
        found = torch.cuda.device_count()
        names = [f"cuda:{index}" for index in range(found)] or ["cpu" if device == "auto" else "cuda"]
    else:
        names = [device]
    return [names[index % len(names)] for index in range(workers or len(names))]
