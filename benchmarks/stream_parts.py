"""Runs parts of stream runs in parallel processes, until a deadline.

Finished parts are yielded as they end. The state of unfinished parts is saved, if there is a folder for it, and they
continue from there the next time.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.stream_division import Part, prepare_part
from recall_server.core.training.allocator import keep_freed_memory
from trainer.objectives.inner.narrow_training import native_dense
from trainer.run.distill import Interrupted
from trainer.streams.experiment import StreamExperiment, prepare
from trainer.streams.run import StreamRun
from trainer.streams.sources.task import AbstractStream

Record = dict[str, Any]
_KEPT: dict[str, AbstractStream] = {}


@dataclass(frozen=True)
class Job:
    """A run or a part of one; `name` is the key of its figures, `until` the deadline in seconds since 1970."""

    key: str
    experiment: StreamExperiment
    part: Part | None = None
    joint: bool = True  # whether joint training follows a whole run
    processes: int = 1  # how many jobs share the machine
    state: Path | None = None  # the folder for states
    until: float | None = None

    def stopped(self) -> bool:
        return self.until is not None and time.time() > self.until

    @property
    def checkpoint(self) -> Path | None:
        """The file for the job's state."""
        return self.state and self.state / f"{re.sub(r'[^A-Za-z0-9.=]+', '-', self.key)}.checkpoint"


def run_all(jobs: Sequence[Job], threads: int) -> Iterator[tuple[Job, Record]]:
    """Yield every job that ends in time, with its figures. An error in one is raised after the others have ended."""
    if all(job.processes == 1 for job in jobs):
        prepare_process(threads)
        yield from ((job, record) for job in jobs if (record := measure(job)) is not None)
        return
    native_dense()  # compile once, before the processes need it
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries without their own setting
    with ProcessPoolExecutor(
        max(job.processes for job in jobs),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=prepare_process,
        initargs=(threads,),
    ) as pool:
        futures: dict[Future[Record | None], Job] = {pool.submit(measure, job): job for job in jobs}
        errors: list[BaseException] = []
        for future in as_completed(futures):
            if (error := future.exception()) is not None:
                errors.append(error)
                print(f"{futures[future].key}: {error}", flush=True)
            elif (record := future.result()) is not None:
                yield futures[future], record
    if errors:
        raise errors[0]


def prepare_process(threads: int) -> None:
    """Initialise a process before its first job."""
    keep_freed_memory()
    torch.set_num_threads(threads)


def measure(job: Job) -> Record | None:
    """Scores, seconds and memory of a job; None if it was stopped before its end."""
    if job.stopped():
        return None
    print(job.key, flush=True)
    try:
        if job.part is not None and job.part.kind == "joint":
            record = _joint(job, _drawn(job.experiment))
        else:
            record = _stream(job)
    except Interrupted:
        return None
    return record | {
        "processes": job.processes,
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _joint(job: Job, stream: AbstractStream) -> Record:
    started = time.perf_counter()
    joint = job.experiment.joint(stream, stopped=job.stopped)
    return {"joint": statistics.fmean(joint), "seconds": {"joint training": round(time.perf_counter() - started, 1)}}


def _stream(job: Job) -> Record:
    resident: list[int] = []

    def report(sentence: str) -> None:
        resident.append(_resident_mebibytes())
        if job.part is None:
            print(f"  {sentence}", flush=True)

    run = _prepared(job, report)
    scores = run.run(stopped=job.stopped)
    seconds = {name: round(value, 1) for name, value in run.seconds.spent.items()}
    found: Record = {
        "scores": scores.to_json(),
        "buffer_numbers": run.learners[0].numbers(),
        "seconds": seconds,
        "resident_mebibytes": resident[:: max(1, len(resident) // 10)],  # after every tenth of the tasks
    }
    if job.part is None and job.joint:
        joint = _joint(job, run.stream)
        found |= {"joint": joint["joint"], "seconds": seconds | joint["seconds"]}
    return found


def _prepared(job: Job, report: Any) -> StreamRun:
    """The run of a job, resumed from its state if there is one."""
    if job.part is None:
        run = prepare(job.experiment, checkpoint=job.checkpoint, report=report)
    else:
        run = prepare_part(job.experiment, job.part, _drawn(job.experiment), checkpoint=job.checkpoint, report=report)
    if job.checkpoint is not None and job.checkpoint.exists():
        run.resume()
    return run


def _drawn(experiment: StreamExperiment) -> AbstractStream:
    """The stream of an experiment, kept so that a process with several parts reads the data once."""
    key = repr(experiment)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = experiment.stream()
    return _KEPT[key]


def _resident_mebibytes() -> int:
    """Resident memory of this process; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() // 2**20 if statm.exists() else 0
