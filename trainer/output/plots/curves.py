"""Learning curves: accuracy on validation pictures against outer steps and against minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from recall_server.core.bundle.manifest import RunProgress
from trainer.output.plots.figures import empty

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(runs: Mapping[str, RunProgress]) -> Figure:
    """A line for each run in both panels, with a ring at its best point, which is the version in its bundle.

    Raises ValueError for no runs.
    """
    if not runs:
        raise ValueError("a plot of learning curves needs at least one run with validation points")
    figure = empty(8, 3.4)
    by_steps, by_minutes = figure.subplots(1, 2, sharey=True)
    for name, progress in runs.items():
        points = progress.validation
        accuracies = [100 * point.accuracy for point in points]
        best = max(range(len(points)), key=lambda index: (points[index].accuracy, index))
        steps = [float(point.outer_steps) for point in points]
        minutes = [point.minutes for point in points]
        for axes, places in ((by_steps, steps), (by_minutes, minutes)):
            (line,) = axes.plot(places, accuracies, marker=".", label=name)
            axes.plot(places[best], accuracies[best], "o", fillstyle="none", markersize=9, color=line.get_color())
    by_steps.set(xlabel="outer steps", ylabel="accuracy on validation pictures, %")
    by_minutes.set(xlabel="minutes")
    for axes in (by_steps, by_minutes):
        axes.grid(alpha=0.3)
    for text in by_minutes.legend(loc="lower right", fontsize="small").get_texts():
        text.set_parse_math(False)  # file names must not be read as formulas
    return figure
