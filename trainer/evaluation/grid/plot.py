"""Accuracy of a grid's methods against the minutes that they took, a panel for each data set and budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.evaluation.grid.measure import COMMON
from trainer.evaluation.grid.table import BASELINE, Row, Table
from trainer.output.plots.figures import empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORTEST = 0.01  # minutes, so that instant methods have a place on the logarithmic axis
WIDTH, HEIGHT, COLUMNS = 5.6, 4.0, 3  # size of a panel in inches, and panels per row
GAP = 1 / 30  # of a panel's height, between the names of two methods
MARGIN = 1.5  # the factor of minutes that is free on both sides


def accuracy_over_minutes(table: Table) -> Figure:
    """Points with the deviation over networks as bars; the baseline of random pictures is a dashed line.

    Raises ValueError if nothing was measured or matplotlib is not installed.
    """
    groups = {title: rows for title, rows in table.groups.items() if any(row.done for row in rows)}
    if not groups:
        raise ValueError("a plot of a grid needs a cell that is done")
    columns = min(COLUMNS, len(groups))
    lines = -(-len(groups) // columns)
    figure = empty(WIDTH * columns, HEIGHT * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, ((dataset, size), rows) in zip(panels, groups.items(), strict=False):
        _draw(axes, rows, table.networks[0])
        images = "image" if size == 1 else "images"
        axes.set_title(f"{dataset}, {size:g} {images} per class", fontsize="medium", parse_math=False)
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, rows: Sequence[Row], network: str) -> None:
    """Draw the rows, the best of which comes first."""
    points: list[tuple[str, float, float]] = []
    for row in reversed(rows):
        found, minutes = row.accuracy(COMMON, network), row.mean("minutes")
        if found is None or minutes is None:
            continue
        points.append((row.method, max(SHORTEST, minutes), found.mean))
        colour = f"C{len(points) % 10}"
        axes.errorbar(*points[-1][1:], yerr=found.deviation, marker="o", markersize=4, capsize=2, color=colour)
        if row.method == BASELINE:
            axes.axhline(found.mean, linestyle="--", linewidth=0.8, color="grey")
    axes.set_xscale("log")
    axes.set(xlabel="minutes", ylabel=f"test accuracy of fresh networks ({network}), %")
    axes.grid(alpha=0.3)
    if points:
        _number(axes, [minutes for _, minutes, _ in points])
        _name(axes, points)


def _number(axes: Axes, minutes: Sequence[float]) -> None:
    """Plain numbers on the axis of minutes, also where all methods took about the same."""
    from matplotlib.ticker import LogLocator  # noqa: PLC0415  (the extra `trainer`)

    axes.set_xlim(min(minutes) / MARGIN, max(minutes) * MARGIN)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def _name(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write the names of methods beside the panel, by rising accuracy, each with a line to its point."""
    low, high = axes.get_ylim()
    line = {"arrowstyle": "-", "linewidth": 0.4, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 3}
    places = apart([accuracy for _, _, accuracy in points], GAP * (high - low), high)
    for index, ((method, minutes, accuracy), place) in enumerate(zip(points, places, strict=True), 1):
        note = axes.annotate(
            method,
            (minutes, accuracy),
            (1.04, place),
            textcoords=axes.get_yaxis_transform(),
            fontsize="x-small",
            va="center",
            arrowprops=line | {"color": f"C{index % 10}"},
        )
        note.set_parse_math(False)


def apart(wanted: Sequence[float], gap: float, highest: float) -> list[float]:
    """Places at least `gap` apart and up to `highest`, each at or near the wanted one; all in rising order."""
    places: list[float] = []
    for each in wanted:
        places.append(max(each, places[-1] + gap) if places else each)
    for index in reversed(range(len(places))):
        places[index] = min(places[index], highest)
        highest = places[index] - gap
    return places
