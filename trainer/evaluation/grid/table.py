"""The table of a grid: a row for each method on a data set at a budget, over all seeds, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from trainer.evaluation.grid.cell import CellRecord
from trainer.evaluation.grid.measure import COMMON, OWN
from trainer.evaluation.grid.published import Published, published

BASELINE = "random"
DIVERGED, MISSING = "diverged", ""
MADE = {"numbers": 0, "file_bytes": 0, "minutes": 1}  # columns of the bundles, with their digits


class Spread(NamedTuple):
    """Mean and standard deviation of the accuracies of fresh networks, in percent; `networks` of them."""

    mean: float
    deviation: float
    networks: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        percent = [100 * value for value in values]
        return cls(statistics.fmean(percent), statistics.stdev(percent) if len(percent) > 1 else 0.0, len(percent))

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.deviation:.1f}"


@dataclass(frozen=True)
class Row:
    """One method on one data set at one budget: the cells of all seeds."""

    dataset: str
    images_per_class: float
    method: str
    cells: tuple[CellRecord, ...]

    @property
    def done(self) -> tuple[CellRecord, ...]:
        return tuple(cell for cell in self.cells if cell.status == "done")

    @property
    def published(self) -> Published | None:
        return published(self.method, self.dataset, self.images_per_class)

    def accuracy(self, protocol: str, network: str | None = None) -> Spread | None:
        """The spread over the networks of all seeds; None if nothing was measured or a training diverged."""
        found = [
            measured.values
            for cell in self.done
            for measured in cell.measured
            if measured.protocol == protocol and network in {None, measured.network}
        ]
        return Spread.of([value for values in found for value in values]) if found and all(found) else None

    def accuracy_text(self, protocol: str, network: str | None = None) -> str:
        found = self.accuracy(protocol, network)
        if found is None:
            tried = any(each.protocol == protocol and not each.values for cell in self.done for each in cell.measured)
            return DIVERGED if tried else MISSING
        return str(found)

    def mean(self, field: str) -> float | None:
        """The mean over seeds of a field of the bundles."""
        values = [getattr(cell.made, field) for cell in self.done if cell.made is not None]
        return statistics.fmean(values) if values else None


class Table:
    """The rows of a grid by data set and budget, the best by the common protocol first."""

    def __init__(self, records: Iterable[CellRecord]) -> None:
        cells: dict[tuple[str, float, str], list[CellRecord]] = {}
        networks: dict[str, None] = {}
        for record in records:
            key = record.cell.dataset_name, record.cell.images_per_class, record.cell.method_name
            cells.setdefault(key, []).append(record)
            networks |= dict.fromkeys(record.settings.networks)
        self.networks = tuple(networks)
        rows = (Row(*key, tuple(found)) for key, found in cells.items())
        self.rows = sorted(rows, key=lambda row: (row.dataset, row.images_per_class, -self._rank(row), row.method))

    def _rank(self, row: Row) -> float:
        found = row.accuracy(COMMON, self.networks[0])
        return -1.0 if found is None else found.mean

    @property
    def groups(self) -> dict[tuple[str, float], list[Row]]:
        """The rows by data set and images per class."""
        found: dict[tuple[str, float], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.dataset, row.images_per_class), []).append(row)
        return found

    def sentences(self) -> Iterator[str]:
        """What the table does not show: failed and unfinished cells, and methods worse than random pictures."""
        for row in self.rows:
            for cell in row.cells:
                if cell.status == "failed":
                    where = f"{row.method} on {row.dataset} at {row.images_per_class:g}, seed {cell.cell.seed}"
                    yield f"{where}, failed: {cell.reason}"
        for (dataset, size), rows in self.groups.items():
            unfinished = [row.method for row in rows if any(cell.status == "waiting" for cell in row.cells)]
            if unfinished:
                yield f"Not finished on {dataset} at {size:g}: {', '.join(unfinished)}."
            behind = self._behind(rows)
            if behind:
                yield f"No better than random real pictures on {dataset} at {size:g}: {', '.join(behind)}."

    def _behind(self, rows: Sequence[Row]) -> list[str]:
        scores = {row.method: row.accuracy(COMMON, self.networks[0]) for row in rows}
        baseline = scores.pop(BASELINE, None)
        if baseline is None:
            return []
        return [method for method, found in scores.items() if found is not None and found.mean <= baseline.mean]

    def markdown(self) -> str:
        """The table, how it was measured, and its sentences."""
        networks = [f"{network}, %" for network in self.networks]
        head = ["data", "images per class", "method", *networks, "own protocol, %", "numbers", "bytes", "minutes"]
        lines = [_line([*head, "published, %", "source"]), _line(["---"] * (len(head) + 2))]
        for row in self.rows:
            stated = row.published
            size = [_number(row.mean(field), digits) for field, digits in MADE.items()]
            figure, source = ("", "") if stated is None else (f"{stated.accuracy:.1f}", stated.source)
            accuracies = [row.accuracy_text(COMMON, network) for network in self.networks]
            first = [row.dataset, f"{row.images_per_class:g}", f"`{row.method}`"]
            lines.append(_line([*first, *accuracies, row.accuracy_text(OWN), *size, figure, source]))
        notes = [f"* {sentence}" for sentence in (self._measured(), *self.sentences())]
        return "\n".join([*lines, "", *notes]) + "\n"

    def _measured(self) -> str:
        """How the accuracies were measured."""
        runs = sorted({cell.settings.runs for row in self.rows for cell in row.cells})
        minutes = sorted({cell.settings.minutes for row in self.rows for cell in row.cells})
        return (
            f"Mean and standard deviation over {_either(runs)} fresh networks for each seed, by the common protocol "
            f"unless a column says otherwise. Cells have {_either(minutes)} minutes to distill."
        )

    def csv(self) -> str:
        """One line per row, with accuracies in percent, deviations and counts in their own columns."""
        stream = io.StringIO()
        columns = [(COMMON, network) for network in self.networks] + [(OWN, None)]
        names = [f"{protocol} {network or ''}".strip() for protocol, network in columns]
        fields = [f"{name} {part}" for name in names for part in ("mean", "deviation", "networks")]
        writer = csv.writer(stream, lineterminator="\n")
        head = ["dataset", "images_per_class", "method", "seeds", *fields, "numbers", "bytes", "minutes"]
        writer.writerow([*head, "published", "source", "failed"])
        for row in self.rows:
            values: list[object] = [row.dataset, row.images_per_class, row.method, len(row.done)]
            for protocol, network in columns:
                found = row.accuracy(protocol, network)
                known = found and (f"{found.mean:.3f}", f"{found.deviation:.3f}", found.networks)
                values += known or ("", "", "")
            values += [_number(row.mean(field), digits, "") for field, digits in MADE.items()]
            stated = row.published
            values += ["", ""] if stated is None else [stated.accuracy, stated.source]
            writer.writerow([*values, "; ".join(cell.reason for cell in row.cells if cell.status == "failed")])
        return stream.getvalue()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _either(values: Sequence[float]) -> str:
    return " or ".join(f"{value:g}" for value in values)


def _number(value: float | None, digits: int, separator: str = ",") -> str:
    return "" if value is None else f"{value:{separator}.{digits}f}"
