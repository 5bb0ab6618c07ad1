"""Where the cells of a grid run: processes of this machine, or tasks of a Ray cluster, which start such processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final

from trainer.cli.grid import cell_process
from trainer.evaluation.grid.cell import LOG
from trainer.run.parallel.child import Child, fault
from trainer.run.parallel.ray_tasks import RayTasks

PROGRAM = ("-m", cell_process.__name__)  # what Python runs for each cell


class CellRunner(Protocol):
    """Runs cells, several at a time."""

    @property
    def description(self) -> str:
        """How many cells run at a time, and where."""
        ...

    def run(self, places: Sequence[Path], lock: int) -> Iterator[tuple[Path, str]]:
        """Run the cells in these folders. Yield each when it has ended, with "" or why its process failed.

        Local processes inherit the descriptor `lock`. Raises ValueError if no cell can be run.
        """
        ...

    def stop(self) -> None:
        """Let running cells stop between two steps, and start no others. Called by signal handlers."""
        ...


@final
@dataclass
class LocalProcesses:
    """Processes of this machine, `jobs` at a time."""

    jobs: int
    device: str = "cpu"
    threads: int = 1
    program: tuple[str, ...] = PROGRAM
    stopped: bool = False
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    @property
    def description(self) -> str:
        return f"{self.jobs} at a time"

    def run(self, places: Sequence[Path], lock: int) -> Iterator[tuple[Path, str]]:
        with ThreadPoolExecutor(self.jobs) as pool:
            for future in as_completed([pool.submit(self._run, place, lock) for place in places]):
                yield future.result()

    def stop(self) -> None:
        self.stopped = True
        for process in tuple(self.running):
            process.send_signal(signal.SIGINT)

    def _run(self, place: Path, lock: int) -> tuple[Path, str]:
        if self.stopped:
            return place, ""
        with (place / LOG).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *self.program, str(place), *_options(self.device, self.threads)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the cell only through this process
                pass_fds=(lock,),
            )
            self.running.add(process)
            status = process.wait()
            self.running.discard(process)
        return place, fault(status, place / LOG)


@final
@dataclass
class RayCells:
    """Processes on the nodes of a Ray cluster, each with CPUs and a GPU of its own; see `RayTasks`.

    The folder of the grid is on storage that all nodes share, so that a cell whose node is lost goes on elsewhere from
    its checkpoint.
    """

    tasks: RayTasks
    program: tuple[str, ...] = PROGRAM

    @property
    def description(self) -> str:
        nodes = len(self.tasks.nodes)
        limit = f", at most {self.tasks.at_once} at a time" if self.tasks.at_once else ""
        return f"on {nodes} {'node' if nodes == 1 else 'nodes'} of the Ray cluster at {self.tasks.address.text}{limit}"

    def run(self, places: Sequence[Path], lock: int) -> Iterator[tuple[Path, str]]:
        if not places:
            return
        self.tasks.check(places[0].parent)
        child = Child(self.program, _options(self.tasks.device, self.tasks.cpus), LOG, os.getcwd())
        names = [str(place.resolve()) for place in places]
        for name, reason in self.tasks.map(child.run, names, failed=str):
            yield Path(name), reason

    def stop(self) -> None:
        self.tasks.stop()


def _options(device: str, threads: int) -> tuple[str, ...]:
    return "--device", device, "--threads", str(threads)
