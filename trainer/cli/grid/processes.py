"""Runs the cells of a grid, each in its own process, several at a time.

A folder has one grid at a time. The grid holds a lock on a file in the folder, and its cells inherit it, so cells of a
killed grid keep another one from starting. Ctrl-C and SIGTERM are passed on to the cells, which stop between two steps.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recall_server.core.io.atomic import write_atomically
from trainer.cli.grid import cell_process
from trainer.evaluation.grid.cell import LOG, Cell, CellRecord, Settings, records
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


def prepare(folder: Path, cell: Cell, settings: Settings) -> CellRecord:
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
    """Runs cells in `folder`; `program` runs one cell. `tell` gets a sentence for each step."""

    folder: Path
    jobs: int
    device: str
    threads: int
    tell: Tell
    program: tuple[str, ...] = (sys.executable, "-m", cell_process.__name__)
    stopped: bool = False
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def run(self, cells: Sequence[Cell], settings: Settings) -> Table:
        """Run those of `cells` that are not done, and return the table of all cells in the folder.

        Raises ValueError, before anything is run, if a grid is running in the folder or it has cells with other
        settings, and Interrupted after Ctrl-C or SIGTERM.
        """
        with locked(self.folder) as lock, self._passing_signals_on():
            found = [prepare(self.folder, cell, settings) for cell in cells]
            waiting = [record for record in found if record.status != "done"]
            self.tell(f"{len(found)} cells, {len(found) - len(waiting)} of them done; {self.jobs} at a time")
            with ThreadPoolExecutor(self.jobs) as pool:
                for future in as_completed([pool.submit(self._run, record.cell, lock) for record in waiting]):
                    record = future.result()
                    if not self.stopped:
                        self.tell(_sentence(record))
                        self.write()
            if self.stopped:
                raise Interrupted
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

    def _run(self, cell: Cell, lock: int) -> CellRecord:
        place = self.folder / cell.folder
        if self.stopped:
            return CellRecord.load(place)
        options = [str(place), "--device", self.device, "--threads", str(self.threads)]
        with (place / LOG).open("ab") as log:
            process = subprocess.Popen(
                [*self.program, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the cell only through this process
                pass_fds=(lock,),
            )
            self.running.add(process)
            status = process.wait()
            self.running.discard(process)
        record = CellRecord.load(place)
        if status != 0 and not self.stopped:
            reason = f"its process ended with status {status}; see {place.name}/{LOG}"
            record = record.model_copy(update={"status": "failed", "reason": reason})
            record.save(place)
        return record

    @contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        def stop(number: int, frame: object) -> None:
            self.stopped = True
            for process in tuple(self.running):
                process.send_signal(signal.SIGINT)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _sentence(record: CellRecord) -> str:
    if record.status == "failed":
        return f"{record.cell.folder}: failed, {record.reason}"
    found = ", ".join(f"{each.protocol} {each.network} {_percent(each.values)}" for each in record.measured)
    return f"{record.cell.folder}: {found}"


def _percent(values: Sequence[float]) -> str:
    return f"{Spread.of(values)} %" if values else DIVERGED
