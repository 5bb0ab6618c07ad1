"""The parts of a command's work as tasks of an external Ray cluster, each with CPUs and GPUs of its own.

A task that is lost, with its node or alone, is run again where there is room. Tasks end with the command that started
them, whatever the reason.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, Self, final

import recall_server
from recall_server.core.io.deadline import calls_after
from recall_server.core.ray_cluster import RayAddress, has_room, rooms
from trainer.run.parallel.tasks import Item, Result

OPTION: Final = "--ray"
ATTEMPTS: Final = 10  # of a task that is lost again and again: maybe it takes more memory than its nodes have
SECONDS_TO_ANSWER: Final = 120.0
SECONDS_BETWEEN_LOOKS: Final = 0.5  # whether the command was stopped


def code() -> str:
    """What has to be the same on this machine and on the nodes."""
    return f"memory-recall {recall_server.__version__} and torch {importlib.metadata.version('torch')}"


def seen(path: str) -> tuple[str, bool]:
    """The code of this node, and whether it sees this file."""
    return code(), Path(path).exists()


def call(work: Callable[[Item], Result], cpus: int, item: Item) -> Result:
    """The result for an item. torch, if the work has loaded it, has as many threads as CPUs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored on a node that a shell started in the background
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # Ray blocks it, and a child would inherit that
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(cpus)
    return work(item)


def _raise(error: Exception) -> NoReturn:
    raise error


@final
@dataclass
class RayTasks:
    """Tasks that take `cpus` and `gpus` of a node each, at most `at_once` of them at a time; with 0, as many as fit."""

    ray: Any
    address: RayAddress
    cpus: int
    gpus: int
    tell: Callable[[str], None]
    at_once: int = 0
    stops: int = 0  # how often `stop` was called

    @classmethod
    def connect(cls, address: str, *, cpus: int, gpus: int, tell: Callable[[str], None], at_once: int = 0) -> Self:
        """Connect to the cluster at HOST:PORT.

        Raises ValueError if it cannot be used, or if no node has enough CPUs and GPUs for one task. A cluster that
        does not answer ends this process with a sentence, since some calls of Ray wait for ever.
        """
        place = RayAddress(address, OPTION)
        if refusal := place.refusal():
            raise ValueError(refusal)
        with calls_after(SECONDS_TO_ANSWER, partial(_give_up, place.silent)):
            try:
                ray = place.connect()
            except Exception as error:
                raise ValueError(place.reason(error)) from error
        tasks = cls(ray, place, cpus, gpus, tell, at_once)
        tasks.check_room()
        return tasks

    @property
    def device(self) -> str:
        """The device of tasks."""
        return "cuda" if self.gpus else "cpu"

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that tasks can run on."""
        return [node for node in self.ray.nodes() if has_room(node, self.cpus, self.gpus)]

    def check_room(self) -> None:
        """Raise ValueError if no node has enough CPUs and GPUs for one task."""
        if not self.nodes:
            raise ValueError(
                f"no node of the Ray cluster has {self.cpus} CPUs and {self.gpus} GPUs, which each task takes; its "
                f"nodes have {rooms(self.ray.nodes())}: add a node, or choose other --threads or another --device"
            )

    def check(self, folder: Path) -> None:
        """Raise ValueError for a node without this folder or with other code. The folder gets a file for a moment."""
        marker = folder.resolve() / f".{uuid.uuid4().hex}"
        marker.touch()
        try:
            self._check(str(marker), folder)
        finally:
            marker.unlink()

    def _check(self, marker: str, folder: Path) -> None:
        affinity, look = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy, self.ray.remote(seen)
        with calls_after(SECONDS_TO_ANSWER, partial(_give_up, "a node of the Ray cluster starts no task; see its log")):
            asked = []
            for node in self.nodes:
                on_it = affinity(node["NodeID"], soft=False)
                task = look.options(num_cpus=0, max_retries=0, scheduling_strategy=on_it)
                asked.append((node["NodeManagerAddress"], task.remote(marker)))
            for name, reference in asked:
                error = self._error(reference)
                if error is not None:
                    raise ValueError(self.address.reason(error))
                theirs, found = self.ray.get(reference)
                if theirs != code():
                    raise ValueError(f"node {name} has {theirs}, and this machine {code()}: install the same versions")
                if not found:
                    raise ValueError(
                        f"node {name} does not see the folder {folder}: --output must be on storage that all nodes of "
                        "the cluster share, at the same place"
                    )

    def map(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        failed: Callable[[Exception], Result] = _raise,
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result as soon as that is known. `work` is pickled, once for all.

        `failed` makes the result of an item from the error that its work raised, or from that of Ray if it was lost
        ATTEMPTS times. After `stop`, items that had not ended yet may be left out.
        """
        work_there = self.ray.put(work)
        task = self.ray.remote(call).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)
        coming = [(item, 1) for item in reversed(items)]
        running: dict[Any, tuple[Item, int]] = {}
        passed_on = 0
        while running or (coming and not self.stops):
            while coming and not self.stops and len(running) < (self.at_once or len(items)):
                item, attempt = coming.pop()
                running[task.remote(work_there, self.cpus, item)] = item, attempt
            if self.stops > passed_on:
                passed_on = self.stops
                for reference in running:
                    self.ray.cancel(reference)
            ended, _ = self.ray.wait([*running], timeout=SECONDS_BETWEEN_LOOKS)
            for reference in ended:
                item, attempt = running.pop(reference)
                error = self._error(reference)
                if error is None:
                    yield item, self.ray.get(reference)
                elif isinstance(error, TaskLost) and attempt < ATTEMPTS:
                    self.tell(f"a task was lost and runs again ({error})")
                    coming.append((item, attempt + 1))
                elif not isinstance(error, self.ray.exceptions.TaskCancelledError):
                    yield item, failed(error)

    def stop(self) -> None:
        """Interrupt running tasks by KeyboardInterrupt, and start no others. A signal handler may call this."""
        self.stops += 1

    def _error(self, reference: Any) -> Exception | None:
        """What kept a task from its result: what the work raised, TaskCancelledError, or TaskLost."""
        errors = self.ray.exceptions
        try:
            self.ray.get(reference)
        except Exception as error:
            if isinstance(error, errors.RayTaskError):
                cause: Exception = error.cause
                return cause
            return error if isinstance(error, errors.TaskCancelledError) else TaskLost(self.address.reason(error))
        return None


class TaskLost(Exception):
    """A task ended without a result, since its process or its node did."""


def _give_up(sentence: str) -> None:
    sys.stderr.write(f"error: {sentence} (waited {SECONDS_TO_ANSWER:g} seconds)\n")
    sys.stderr.flush()
    os._exit(2)
