"""Plots the cosine similarity of the labels' coefficients (paper, section 5.1, figures 3 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.reports.inspection import MOST_COMPARED, similarity
from trainer.output.plots.figures import empty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMED = 120  # labels: more names would not be readable along an axis
INCHES = 0.16  # per named label
MOST_VALUES = 12  # labels: of more, there is no room for the numbers


def similarity_matrix(bundle: MemoryBundle) -> Figure:
    """The matrix of all labels, with groups side by side. Raises the errors of `inspection.similarity`."""
    labels = in_groups(bundle.manifest)[:MOST_COMPARED]
    table = similarity(bundle, labels)
    named = len(labels) <= MOST_NAMED
    side = max(4.0, INCHES * len(labels)) if named else 8.0
    figure = empty(side + 1.2, side + 0.6)
    axes = figure.subplots()
    shown = axes.imshow(table, vmin=-1, vmax=1, cmap="RdBu_r")
    figure.colorbar(shown, ax=axes, shrink=0.8, label="cosine similarity of coefficients")
    if named:
        # Labels are untrusted text: a dollar sign must not start a formula.
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize="small", parse_math=False)
        axes.set_yticks(range(len(labels)), labels, fontsize="small", parse_math=False)
    if len(labels) <= MOST_VALUES:
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                colour = "white" if abs(value) > 0.6 else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize="x-small", color=colour)
    axes.set_title(bundle.manifest.name)
    return figure


def in_groups(manifest: Manifest) -> tuple[str, ...]:
    """The distinct labels in the order of their groups, then those without a group in their own order."""
    grouped = (label for members in manifest.groups.values() for label in members)
    return tuple(dict.fromkeys((*grouped, *manifest.labels)))
