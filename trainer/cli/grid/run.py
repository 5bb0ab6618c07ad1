"""Runs the cells of a grid, and writes its table and plot after each.

A folder has one grid at a time. The grid holds a lock on a file in the folder, and local cells inherit it, so cells of
a killed grid keep another one from starting. Ctrl-C and SIGTERM are passed on to the cells, which stop between two
steps.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recall_server.core.io.atomic import write_atomically
from trainer.cli.grid.runners import CellRunner
from trainer.evaluation.grid.cell import Cell, CellRecord, GridSettings, records
from trainer.evaluation.grid.plot import accuracy_over_minutes
from trainer.evaluation.grid.table import DIVERGED, Spread, Table
from trainer.output.plots.figures import to_bytes
from trainer.run.distill import Interrupted

LOCK, TABLE, CSV, PLOT = "grid.lock", "grid.md", "grid.csv", "grid.png"

Tell = Callable[[str], None]


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """The descriptor of the folder's lock, which is held within the block and by processes that inherit it.

    Raises ValueError if another grid, or a cell of one, holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield descriptor
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode().strip()
        raise ValueError(
            f"a grid is running in {folder.name} already (process {owner}); wait for it and its cells, or choose "
            "another --output"
        ) from None
    finally:
        os.close(descriptor)


def prepare(folder: Path, cell: Cell, settings: GridSettings) -> CellRecord:
    """The record of a cell to run: the existing one, or a new one for a new or failed cell.

    Networks may be added to a cell. Raises ValueError for a cell that was run with other settings.
    """
    place = folder / cell.folder
    record = CellRecord.load(place) if place.exists() else CellRecord(cell=cell, settings=settings)
    theirs, ours = (each.model_dump(exclude={"networks"}) for each in (record.settings, settings))
    for name, value in ours.items():
        if theirs[name] != value:
            raise ValueError(
                f"{folder.name} holds {cell.folder} with {name}={theirs[name]}, not {value}; choose another --output"
            )
    networks = tuple(dict.fromkeys((*record.settings.networks, *settings.networks)))
    added = networks != record.settings.networks
    status = "waiting" if added or record.status == "failed" else record.status
    changed = {"settings": settings.model_copy(update={"networks": networks}), "status": status, "reason": ""}
    record = record.model_copy(update=changed)
    record.save(place)
    return record


@dataclass
class Grid:
    """Cells in `folder`, which the runner runs. `tell` gets a sentence for each step."""

    folder: Path
    runner: CellRunner
    tell: Tell
    stopped: bool = False

    def run(self, cells: Sequence[Cell], settings: GridSettings) -> Table:
        """Run those of `cells` that are not done, and return the table of all cells in the folder.

        Raises ValueError, before anything is run, if a grid is running in the folder, if it has cells with other
        settings, or if the runner can run none, and Interrupted after Ctrl-C or SIGTERM.
        """
        with locked(self.folder) as lock, self._passing_signals_on():
            found = [prepare(self.folder, cell, settings) for cell in cells]
            waiting = [self.folder / record.cell.folder for record in found if record.status != "done"]
            done = len(found) - len(waiting)
            self.tell(f"{len(found)} cells, {done} of them done; {self.runner.description}")
            for place, reason in self.runner.run(waiting, lock):
                if not self.stopped:
                    done += 1
                    self.tell(f"{done} of {len(found)}: {_sentence(ended(place, reason))}")
                    self.write()
            if self.stopped:
                raise Interrupted("stopped; the same command continues")
            return self.write()

    def write(self) -> Table:
        """Write the table and, if matplotlib is installed and a cell is done, the plot."""
        table = Table(records(self.folder))
        write_atomically(self.folder / TABLE, table.markdown().encode())
        write_atomically(self.folder / CSV, table.csv().encode())
        try:
            write_atomically(self.folder / PLOT, to_bytes(accuracy_over_minutes(table), "png"))
        except ValueError as error:
            self.tell(f"no plot: {error}")
        return table

    @contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self.stopped = True
            self.runner.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def ended(place: Path, reason: str) -> CellRecord:
    """The record of a cell that ended; it failed if there is a reason."""
    record = CellRecord.load(place)
    if reason:
        record = record.model_copy(update={"status": "failed", "reason": reason})
        record.save(place)
    return record


def _sentence(record: CellRecord) -> str:
    if record.status == "failed":
        return f"{record.cell.folder}: failed, {record.reason}"
    found = ", ".join(f"{each.protocol} {each.network} {_percent(each.values)}" for each in record.measured)
    return f"{record.cell.folder}: {found}"


def _percent(values: Sequence[float]) -> str:
    return f"{Spread.of(values)} %" if values else DIVERGED
