"""The accuracy of every learner on every task as the stream grows, and the figures computed from it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Scores:
    """`rows[learner][t][i]` is the accuracy on task i after the end of task t, if measured (i <= t)."""

    rows: dict[str, dict[int, dict[int, float]]] = field(default_factory=dict)

    def add(self, learner: str, *, after: int, task: int, accuracy: float) -> None:
        self.rows.setdefault(learner, {}).setdefault(after, {})[task] = accuracy

    def last(self, learner: str) -> dict[int, float]:
        """Accuracies on all tasks after the last finished task."""
        rows = self.rows[learner]
        return rows[max(rows)]

    def retained(self, learner: str) -> float:
        """Retained accuracy (RA): the mean over all tasks at the end."""
        return statistics.fmean(self.last(learner).values())

    def transfer(self, learner: str) -> float:
        """Backward transfer and interference (BTI): the mean gain in accuracy from a task's end to the stream's end.

        The last task is left out; negative values mean forgetting.
        """
        rows, last = self.rows[learner], self.last(learner)
        earlier = [task for task in last if task < max(rows) and task in rows.get(task, {})]
        return statistics.fmean(last[task] - rows[task][task] for task in earlier) if earlier else 0.0

    def curve(self, learner: str) -> list[tuple[int, float]]:
        """(tasks seen, mean accuracy over them) wherever all of them were measured."""
        rows = sorted(self.rows[learner].items())
        return [(after + 1, statistics.fmean(row.values())) for after, row in rows if len(row) == after + 1]

    def to_json(self) -> dict[str, Any]:
        return {
            name: [[after, task, value] for after, row in rows.items() for task, value in row.items()]
            for name, rows in self.rows.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises TypeError or ValueError for anything else."""
        scores = cls()
        for name, points in stored.items():
            for after, task, value in points:
                scores.add(name, after=after, task=task, accuracy=value)
        return scores


def spread(values: Sequence[float]) -> float:
    """Standard deviation over runs; 0 for a single one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def table(runs: Sequence[Scores], joint: Sequence[float] = ()) -> str:
    """A table of retained accuracy and backward transfer in percent, as mean and spread over the runs per learner."""
    lines = [f"{'learner':<20}{'retained accuracy':>20}{'backward transfer':>20}"]
    for name in runs[0].rows:
        retained = _percent([run.retained(name) for run in runs])
        lines.append(f"{name:<20}{retained:>20}{_percent([run.transfer(name) for run in runs]):>20}")
    if joint:
        lines.append(f"{'joint training':<20}{_percent(joint):>20}{'':>20}")
    return "\n".join(lines)


def figures(runs: Sequence[Scores], joint: Sequence[float] = ()) -> dict[str, Any]:
    """Retained accuracy, spread and backward transfer of each learner, as fractions."""
    found: dict[str, Any] = {}
    for name in runs[0].rows:
        retained, transfer = [run.retained(name) for run in runs], [run.transfer(name) for run in runs]
        found[name] = {
            "retained_accuracy": round(statistics.fmean(retained), 4),
            "spread": round(spread(retained), 4),
            "backward_transfer": round(statistics.fmean(transfer), 4),
        }
    if joint:
        found["joint"] = {"retained_accuracy": round(statistics.fmean(joint), 4), "spread": round(spread(joint), 4)}
    return found


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.2f} ± {100 * spread(values):.2f}"
