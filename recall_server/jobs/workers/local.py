"""The training processes of this machine."""

from __future__ import annotations

import os
from functools import partial
from typing import final

import torch

from recall_server.jobs.workers.pool import WorkerPool
from recall_server.jobs.workers.worker import run_worker


@final
class LocalBackend(WorkerPool):
    """Processes that train on this machine.

    `device` is "auto" (CUDA if torch can use it), "cpu", "cuda", or one of torch's names such as "cuda:1". With
    `workers` 0 there is one for each CUDA device, or one on the CPU; more workers than CUDA devices share them in turn.
    `threads` is the number for each process; with 0 the processes divide the cores among them.
    """

    def __init__(self, *, device: str = "auto", threads: int = 0, workers: int = 1) -> None:
        devices = _devices(device, workers)
        if not threads and len(devices) > 1:
            threads = max(1, (os.cpu_count() or 1) // len(devices))
        super().__init__([partial(run_worker, device=name, threads=threads) for name in devices])


def _devices(device: str, workers: int) -> list[str]:
    """The name of each worker's device."""
    if device in ("auto", "cuda"):
        found = torch.cuda.device_count()
        names = [f"cuda:{index}" for index in range(found)] or ["cpu" if device == "auto" else "cuda"]
    else:
        names = [device]
    return [names[index % len(names)] for index in range(workers or len(names))]
