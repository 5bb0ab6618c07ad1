"""Chooses the number of bases: accuracy on validation pictures against K (paper, figures 2 and 5).

For each K, the budget determines the rows, and a run of the same length distills a memory. A sweep that was stopped
continues: points in its file are not run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.tensor_file import parse_json
from recall_server.core.memory import BASES
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Accuracies
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.spec import flattened
from trainer.output.plots.figures import empty
from trainer.run.parallel.tasks import Here, Tasks
from trainer.run.progress import RunLimits
from trainer.run.search.trial import trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
FEWEST_ROWS = 4  # with fewer images of each class, classifiers learn little; not tried unless asked for

HERE: Final = Here()

Point = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """The settings that all K share."""

    dataset: ImageDataset
    method: Method
    images_per_class: float
    limits: RunLimits
    seed: int
    device: torch.device

    def budgets(self, counts: Sequence[int] | None) -> list[MemoryBudget]:
        """The budgets for these K, or for all of COUNTS that leave at least FEWEST_ROWS.

        Raises ValueError for a K that does not fit, with the largest that does, and if none fits.
        """
        if BASES not in self.method.memory.memory.traits:
            raise ValueError(f"a memory of {self.method.memory.kind} has no bases to count; use one of addressed_bases")
        if counts:
            return [self._budget(count) for count in dict.fromkeys(counts)]
        found = []
        for count in COUNTS:
            if count > self.method.start.most_bases(self.method.memory.stored_numbers(self.method.shape(self.dataset))):
                break
            try:
                budget = self._budget(count)
            except ValueError:
                break
            if budget.rows >= FEWEST_ROWS:
                found.append(budget)
        return found or [self._budget(COUNTS[0])]

    def describe(self) -> dict[str, Any]:
        """The settings that identify a sweep."""
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.digest,
            "images_per_class": self.images_per_class,
            "method": flattened(self.method, lambda name: name == "citation"),
            "outer_steps": self.limits.outer_steps,
            "minutes": self.limits.minutes,
            "validate_every": self.limits.validate_every,
            "seed": self.seed,
        }

    def measure(self, budget: MemoryBudget) -> Point:
        """The best validation of a run with this budget."""
        history = trial(self.dataset, self.method, budget, limits=self.limits, seed=self.seed, device=self.device)
        best = max(history, key=lambda point: point.accuracy)
        accuracies = Accuracies(best.values)
        return {
            "bases": budget.bases,
            "rows": budget.rows,
            "accuracy": accuracies.mean,
            "spread": accuracies.spread,
            "accuracies": list(best.values),
            "best_step": best.step,
            "outer_steps": history[-1].step,
            "seconds": round(history[-1].seconds, 1),
        }

    def _budget(self, count: int) -> MemoryBudget:
        return self.method.budget(self.dataset, images_per_class=self.images_per_class, bases=count)


def select_bases(  # noqa: PLR0913
    sweep: Sweep,
    counts: Sequence[int] | None,
    output: Path,
    tell: Callable[[str], None],
    *,
    overwrite: bool = False,
    tasks: Tasks = HERE,
) -> list[Point]:
    """Measure every K, write the curve to `output` as JSON after each, and return its points in the order of K.

    Raises ValueError for a K that does not fit, and for a file of another sweep unless `overwrite` is set.
    """
    budgets = sweep.budgets(counts)
    points = {} if overwrite else known(output, sweep)
    for budget in budgets:
        if budget.bases in points:
            tell(_sentence(points[budget.bases]))
    for budget, point in tasks.map(sweep.measure, [budget for budget in budgets if budget.bases not in points]):
        points[budget.bases] = point
        ordered = [points[bases] for bases in sorted(points)]
        document = {"sweep": sweep.describe(), "points": ordered, "best": best(ordered)["bases"]}
        write_atomically(output, json.dumps(document, indent=1).encode())
        tell(_sentence(point))
    return [points[bases] for bases in sorted(points)]


def _sentence(point: Point) -> str:
    return (
        f"{point['bases']} bases, {point['rows']} rows: {100 * point['accuracy']:.1f} ± {100 * point['spread']:.1f} % "
        f"on validation pictures, after {point['best_step']} of {point['outer_steps']} outer steps"
    )


def known(output: Path, sweep: Sweep) -> dict[int, Point]:
    """The points in the file of a sweep that was stopped, by K; none without a file."""
    if not output.exists():
        return {}
    try:
        document = parse_json(output.read_text(encoding="utf-8"))
        theirs, points = document["sweep"], {point["bases"]: point for point in document["points"]}
        best(list(points.values()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output.name} is no curve of bases; write to another --output") from error
    ours = sweep.describe()
    differing = [key for key in ours if theirs.get(key) != ours[key]]
    if differing:
        raise ValueError(
            f"{output.name} is the curve of another sweep: its {differing[0]} differs; write to another --output, or "
            "replace it with --overwrite"
        )
    return points


def best(points: Sequence[Point]) -> Point:
    """The point of highest accuracy, with the fewest bases among equals."""
    return max(points, key=lambda point: (point["accuracy"], -point["bases"]))


def figure(points: Sequence[Point], title: str) -> Figure:
    """A plot of the curve; error bars are standard deviations over networks. ValueError without matplotlib."""
    drawn = empty(5, 3.4)
    axes = drawn.subplots()
    bases = [point["bases"] for point in points]
    axes.errorbar(
        bases,
        [100 * point["accuracy"] for point in points],
        yerr=[100 * point["spread"] for point in points],
        marker=".",
        capsize=3,
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(bases, [f"{point['bases']}\n({point['rows']})" for point in points], fontsize="small")
    axes.minorticks_off()
    axes.set(xlabel="bases (rows)", ylabel="accuracy on validation pictures, %")
    axes.set_title(title, fontsize="medium", parse_math=False)
    axes.grid(alpha=0.3)
    return drawn
