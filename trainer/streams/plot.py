"""Plots the mean accuracy over the tasks seen so far against the number of tasks, one line per learner."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from recall_server.core.io.atomic import write_atomically
from trainer.streams.scores import Scores, spread


def plot_scores(runs: Sequence[Scores], path: Path, *, title: str, joint: Sequence[float] = ()) -> None:
    """Write the plot as a PNG; bands are one standard deviation over the runs, the dashed line is joint training."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (needed for the plot only)
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(6, 4), layout="constrained")
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
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", fontsize="small")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(path, picture.getvalue())
