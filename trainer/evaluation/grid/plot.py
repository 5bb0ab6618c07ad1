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
WIDTH, HEIGHT, COLUMNS = 5.0, 4.0, 3  # size of a panel in inches, and panels per row


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
        axes.set_title(f"{dataset}, {size:g} images per class", fontsize="medium", parse_math=False)
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    return figure


def _draw(axes: Axes, rows: Sequence[Row], network: str) -> None:
    for row in rows:
        found, minutes = row.accuracy(COMMON, network), row.mean("minutes")
        if found is None or minutes is None:
            continue
        place = max(SHORTEST, minutes)
        axes.errorbar(place, found.mean, yerr=found.deviation, marker="o", markersize=4, capsize=2)
        note = axes.annotate(row.method, (place, found.mean), (4, 3), textcoords="offset points", fontsize="x-small")
        note.set_parse_math(False)
        if row.method == BASELINE:
            axes.axhline(found.mean, linestyle="--", linewidth=0.8, color="grey")
    axes.set_xscale("log")
    axes.set(xlabel="minutes", ylabel=f"test accuracy of fresh networks ({network}), %")
    axes.grid(alpha=0.3)
