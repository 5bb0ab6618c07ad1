"""A cell of the grid, and the file with its state."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import first_fault
from recall_server.core.io.atomic import write_atomically

RECORD, BUNDLE, LOG = "cell.json", "bundle.safetensors", "log.txt"  # file in the folder of a cell

Status = Literal["waiting", "done", "failed"]


class CellPart(BaseModel):
    """A part of the cell's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(CellPart):
    """One method on one data set with one budget and one seed. `method` may be a file NAME.py."""

    method: str
    dataset: str
    images_per_class: float
    seed: int

    @property
    def method_name(self) -> str:
        return Path(self.method).stem if self.method.endswith(".py") else self.method

    @property
    def dataset_name(self) -> str:
        return Path(self.dataset).name

    @property
    def folder(self) -> str:
        """The name of the cell's folder, which describes the cell."""
        name = f"{self.dataset_name}-{self.images_per_class:g}-{self.method_name}-seed{self.seed}"
        return re.sub(r"[^A-Za-z0-9._-]", "_", name)


class GridSettings(CellPart):
    """What all cells of a grid share: the time for each, and how its bundle is measured."""

    minutes: Annotated[float, Field(gt=0)]
    runs: Annotated[int, Field(ge=1)]
    networks: tuple[str, ...]
    bases: int | None = None
    image_size: int | None = None


class CellAccuracies(CellPart):
    """Test accuracies, 0 to 1, of fresh networks by one protocol; empty if a training diverged."""

    network: str
    protocol: str
    values: tuple[float, ...]


class MadeBundle(CellPart):
    """The bundle of a cell: the time that it took, its size, and its validation accuracy."""

    minutes: float
    outer_steps: int
    numbers: int
    file_bytes: int
    validation: float | None

    @classmethod
    def of(cls, bundle: MemoryBundle, seconds: float) -> Self:
        """The description of a bundle made in this many seconds. For an interrupted run, the bundle has its seconds."""
        made, progress = bundle.manifest.provenance, bundle.manifest.progress
        curve = () if progress is None else progress.validation
        return cls(
            minutes=round(max(seconds, made.seconds) / 60, 2),
            outer_steps=made.outer_steps,
            numbers=bundle.manifest.budget.numbers_stored,
            file_bytes=bundle.file_bytes or 0,
            validation=max((point.accuracy for point in curve), default=None),
        )


class CellRecord(CellPart):
    """The state of a cell. `reason` says why it failed."""

    cell: Cell
    settings: GridSettings
    status: Status = "waiting"
    reason: str = ""
    made: MadeBundle | None = None
    measured: tuple[CellAccuracies, ...] = ()

    def measurement(self, network: str, protocol: str) -> CellAccuracies | None:
        """The measurement by this protocol with this network, if there is one."""
        return next((each for each in self.measured if (each.network, each.protocol) == (network, protocol)), None)

    def save(self, folder: Path) -> None:
        write_atomically(folder / RECORD, self.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The record in the folder of a cell. Raises ValueError for a malformed file."""
        try:
            return cls.model_validate_json((folder / RECORD).read_bytes())
        except (OSError, ValidationError) as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else error
            raise ValueError(f"{folder.name}/{RECORD} is not the record of a cell: {fault}") from error


def records(folder: Path) -> list[CellRecord]:
    """All records below the folder of a grid, in the order of their names."""
    return [CellRecord.load(path.parent) for path in sorted(folder.glob(f"*/{RECORD}"))]
