"""Plots the mean accuracy over the tasks seen so far against the number of tasks, one line per learner."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from recall_server.core.io.atomic import write_atomically
from trainer.output.plots.figures import empty, to_bytes
from trainer.streams.scores import Scores, spread


def plot_scores(runs: Sequence[Scores], path: Path, *, title: str, joint: Sequence[float] = ()) -> None:
    """Write the plot as a PNG; bands are one standard deviation over the runs, the dashed line is joint training."""
    figure = empty(6, 4)
    axes = figure.subplots()
    for name in runs[0].rows:
        curves = [dict(run.curve(name)) for run in runs]
        tasks = sorted(set.intersection(*(set(curve) for curve in curves)))
        means = [statistics.fmean(curve[seen] for curve in curves) for seen in tasks]
        bands = [spread([curve[seen] for curve in curves]) for seen in tasks]
        axes.plot(tasks, means, marker=".", label=name)
        low, high = ([mean + sign * band for mean, band in zip(means, bands, strict=True)] for sign in (-1, 1))
        axes.fill_between(tasks, low, high, alpha=0.2)
    if joint:
        axes.axhline(statistics.fmean(joint), linestyle="--", color="grey", label="joint training")
    axes.set(xlabel="tasks seen", ylabel="mean accuracy over them", title=title)
    axes.locator_params(axis="x", integer=True)
    axes.legend(loc="lower left", fontsize="small")
    write_atomically(path, to_bytes(figure, "png"))
