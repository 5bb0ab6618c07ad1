"""The training process: warms itself up, trains one task after the other, and reports over a pipe.

Tasks arrive as safetensors; messages leave as JSON, and classifiers as safetensors. Neither end unpickles anything,
and the process keeps no file.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field, TypeAdapter

from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.scheduling import TRAINING, let_server_first
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.core.training.retraining import Retraining
from recall_server.errors import RecallError, TrainingFailed
from recall_server.jobs.rows.records import JobError, Progress, Record
from recall_server.jobs.rows.task import TaskDescription, TrainingTask

SECONDS_BETWEEN_REPORTS = 0.1
UNEXPECTED = JobError(kind=TrainingFailed.__name__, detail="training failed unexpectedly; the server's log says more")


class Ready(Record):
    """The process is warm, so the next task starts without delay. `node` is the machine of a cluster, if it is one.

    `slow` says that training runs at half the speed there, because the kernels could not be compiled.
    """

    event: Literal["ready"] = "ready"
    device: str
    node: str | None = None
    slow: bool = False


class Progressed(Record):
    """Some steps of the task are done."""

    event: Literal["progressed"] = "progressed"
    progress: Progress


class Succeeded(Record):
    """The task is trained. The classifier's file of this digest follows as the next message.

    `Lost` follows instead where the machine that has the file is lost before it has sent it.
    """

    event: Literal["succeeded"] = "succeeded"
    seconds: float
    sha256: str


class Failed(Record):
    """There is no classifier. With a `traceback`, which is for the server's log only, the process ends as well."""

    event: Literal["failed"] = "failed"
    error: JobError
    traceback: str | None = None


class Lost(Record):
    """The process ends because of something outside it, so another attempt may succeed."""

    event: Literal["lost"] = "lost"
    reason: str


class Channel(Protocol):
    """The part of a pipe that training needs."""

    def recv_bytes(self) -> bytes:
        """Wait for the next task. Raises EOFError when there will be none."""

    def send_bytes(self, buf: bytes, /) -> None:
        """Send a message, or the file of a classifier."""


Message = Ready | Progressed | Succeeded | Failed | Lost
MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="event")])


def run_worker(connection: Connection, device: str, threads: int) -> None:
    """The main function of the process. It ends when the other end of the pipe is closed, and with its parent.

    It also ends after an unexpected error, which may leave a process unusable, as errors of CUDA do. The next task
    then gets a new process.
    """
    end_with_parent()
    let_server_first(TRAINING)
    keep_freed_memory()
    if threads:
        torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            warm_up(device)
        except Exception as error:
            detail = f"the training process cannot train ({type(error).__name__}); the server's log says more"
            fault = JobError(kind=TrainingFailed.__name__, detail=detail)
            return send(connection, Failed(error=fault, traceback=traceback.format_exc()))
        send(connection, Ready(device=device))
        while train_next(connection, device):
            pass


def train_next(connection: Channel, device: str) -> bool:
    """Receive one task and train it. Returns False if the process should not be used again."""
    task = connection.recv_bytes()
    began = time.monotonic()
    try:
        classifier = TrainingTask.from_bytes(task).train(device=device, progress=_Reporter(connection))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except RecallError as error:
        send(connection, Failed(error=JobError(kind=type(error).__name__, detail=str(error))))
    except Exception:
        send(connection, Failed(error=UNEXPECTED, traceback=traceback.format_exc()))
        return False
    else:
        send(connection, Succeeded(seconds=time.monotonic() - began, sha256=hashlib.sha256(classifier).hexdigest()))
        connection.send_bytes(classifier)
    return True


def end_with_parent() -> None:
    """End this process at once when the server dies, and ignore Ctrl-C, which reaches all processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides
    threading.Thread(target=_await_parent, name="parent", daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Reporter:
    """Sends the progress of a training a few times a second."""

    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._next = 0.0

    def __call__(self, done: int, total: int, loss: float) -> None:
        if time.monotonic() < self._next and done < total:
            return
        self._next = time.monotonic() + SECONDS_BETWEEN_REPORTS
        send(self._connection, Progressed(progress=Progress(done=done, total=total, loss=loss)))


def send(connection: Channel, message: Message) -> None:
    connection.send_bytes(message.model_dump_json().encode())


def warm_up(device: str) -> None:
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
