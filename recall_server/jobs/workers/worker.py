"""The training process: warms itself up, trains one task after the other, and reports over a pipe.

Tasks arrive as safetensors; messages leave as JSON, and classifiers as safetensors. Neither end unpickles anything,
and the process keeps no file.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter

from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.core.training.retraining import Retraining
from recall_server.errors import RecallError, TrainingFailed
from recall_server.jobs.rows.records import JobError, Progress, Record
from recall_server.jobs.rows.task import TaskDescription, TrainingTask

SECONDS_BETWEEN_REPORTS = 0.1
NICENESS = 5  # answers, which are short, go before trainings where both want the same processor
UNEXPECTED = JobError(kind=TrainingFailed.__name__, detail="training failed unexpectedly; the server's log says more")


class Ready(Record):
    """The process is warm, so the next task starts without delay."""

    event: Literal["ready"] = "ready"
    device: str


class Progressed(Record):
    """Some steps of the task are done."""

    event: Literal["progressed"] = "progressed"
    progress: Progress


class Succeeded(Record):
    """The task is trained. The bytes of the classifier's file follow as the next message."""

    event: Literal["succeeded"] = "succeeded"
    seconds: float


class Failed(Record):
    """There is no classifier. With a `traceback`, which is for the server's log only, the process ends as well."""

    event: Literal["failed"] = "failed"
    error: JobError
    traceback: str | None = None


Message = Ready | Progressed | Succeeded | Failed
MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


def run_worker(connection: Connection, device: str, threads: int) -> None:
    """The main function of the process. It ends when the other end of the pipe is closed, and with its parent.

    It also ends after an unexpected error, which may leave a process unusable, as errors of CUDA do. The next task
    then gets a new process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the server decides
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    os.nice(NICENESS)
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _warm_up(device)
        except Exception as error:
            detail = f"the training process cannot train ({type(error).__name__}); the server's log says more"
            fault = JobError(kind=TrainingFailed.__name__, detail=detail)
            return _send(connection, Failed(error=fault, traceback=traceback.format_exc()))
        _send(connection, Ready(device=device))
        while _serve(connection, device):
            pass


def _serve(connection: Connection, device: str) -> bool:
    """Train one task. Returns False if the process should not be used again."""
    task = connection.recv_bytes()
    began = time.monotonic()
    try:
        classifier = TrainingTask.from_bytes(task).train(device=device, progress=_Reporter(connection))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except RecallError as error:
        _send(connection, Failed(error=JobError(kind=type(error).__name__, detail=str(error))))
    except Exception:
        _send(connection, Failed(error=UNEXPECTED, traceback=traceback.format_exc()))
        return False
    else:
        _send(connection, Succeeded(seconds=time.monotonic() - began))
        connection.send_bytes(classifier)
    return True


def _end_with_parent() -> None:
    """End the process when the server dies. The training itself would notice only after a while."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Reporter:
    """Sends the progress of a training a few times a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next = 0.0

    def __call__(self, done: int, total: int, loss: float) -> None:
        if time.monotonic() < self._next and done < total:
            return
        self._next = time.monotonic() + SECONDS_BETWEEN_REPORTS
        _send(self._connection, Progressed(progress=Progress(done=done, total=total, loss=loss)))


def _send(connection: Connection, message: Message) -> None:
    connection.send_bytes(message.model_dump_json().encode())


def _warm_up(device: str) -> None:
    """Train something tiny, since the first steps in a process load libraries, threads and kernels."""
    tiny = TrainingTask(
        images=torch.rand(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        targets=torch.eye(2),
        preprocessing=Standardise(mean=torch.zeros(1), deviation=torch.ones(1)),
        description=TaskDescription(
            labels=("one", "other"),
            preprocessing=Standardise.kind,
            retraining=Retraining(
                network=NetworkSpec(filters=8, depth=2), steps=2, learning_rate=0.01, rows_per_class=2
            ),
            seed=0,
            metadata={},
        ),
    )
    tiny.train(device=device)
