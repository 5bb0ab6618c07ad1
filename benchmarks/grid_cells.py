"""Recorded cells of `recall-trainer grid`: `benchmarks/grid.jsonl`, one per line, which docs/grid.md is made from.

    python -m benchmarks.grid_cells --take grid
    python -m benchmarks.grid_cells --give grid

The first records the finished cells of the grid in that folder; a recorded cell of the same name is replaced. The
second puts the recorded cells into a folder, so that a grid there, with the same settings, runs only what is missing.
Run `python docs/generate.py` after the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from benchmarks.command import command_parser
from recall_server.core.io.atomic import write_atomically
from recall_server.core.training.device import device_name
from trainer.evaluation.grid.cell import CellRecord, records

RECORDED = Path(__file__).with_name("grid.jsonl")


class RecordedCell(BaseModel):
    """A finished cell, and where and when it was recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: CellRecord
    device: str
    date: date

    @property
    def name(self) -> str:
        return self.record.cell.folder


def read(path: Path = RECORDED) -> list[RecordedCell]:
    return [RecordedCell.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(cells: Iterable[RecordedCell], path: Path = RECORDED) -> None:
    """Write the cells, in the order of their names."""
    lines = [cell.model_dump_json() + "\n" for cell in sorted(cells, key=lambda cell: cell.name)]
    write_atomically(path, "".join(lines).encode())


def taken(folder: Path, recorded: Iterable[RecordedCell], device: str) -> list[RecordedCell]:
    """The recorded cells, with the finished ones of the grid in `folder`. Raises ValueError if it has none."""
    today = datetime.now(UTC).date()
    done = [record for record in records(folder) if record.status == "done"]
    if not done:
        raise ValueError(f"{folder} has no finished cell; `recall-trainer grid --output {folder}` runs some")
    cells = {cell.name: cell for cell in recorded}
    for record in done:
        known = cells.get(record.cell.folder)
        if known is None or known.record != record:
            cells[record.cell.folder] = RecordedCell(record=record, device=device, date=today)
    return list(cells.values())


def give(folder: Path, recorded: Iterable[RecordedCell]) -> int:
    """Put into `folder` the recorded cells that it does not have, and return how many those are."""
    missing = [cell for cell in recorded if not (folder / cell.name).exists()]
    for cell in missing:
        (folder / cell.name).mkdir(parents=True)
        cell.record.save(folder / cell.name)
    return len(missing)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--take", type=Path, metavar="FOLDER", help="record the finished cells of this grid")
    chosen.add_argument("--give", type=Path, metavar="FOLDER", help="put the recorded cells into this folder")
    parser.add_argument("--file", type=Path, default=RECORDED)
    options = parser.parse_args(arguments)
    recorded = read(options.file) if options.file.exists() else []
    if options.give:
        print(f"{give(options.give, recorded)} cells")
    else:
        torch.set_num_threads(1)  # as in a cell
        write(taken(options.take, recorded, device_name(torch.device("cpu"))), options.file)


if __name__ == "__main__":
    main()
