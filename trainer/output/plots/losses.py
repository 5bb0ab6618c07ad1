"""Outer loss and gradient norm against outer steps, from the metrics that a run wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.output.plots.figures import empty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.95  # of the running mean, which is drawn over the values themselves


def losses(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Lines of metrics files, a colour for each run; ValueError for a run without an outer step."""
    figure = empty(8, 3.4)
    panels = figure.subplots(1, 2)
    for name, lines in runs.items():
        steps = [line for line in lines if line.get("loss") is not None]
        if not steps:
            raise ValueError(f"{name} holds no outer step whose loss could be drawn")
        places = [line["step"] for line in steps]
        for axes, key in zip(panels, ("loss", "gradient_norm"), strict=True):
            values = [float(line[key]) for line in steps]
            (line,) = axes.plot(places, running_mean(values), label=name)
            axes.plot(places, values, color=line.get_color(), alpha=0.25, linewidth=0.8)
    panels[0].set(xlabel="outer steps", ylabel="outer loss")
    panels[1].set(xlabel="outer steps", ylabel="norm of its gradient", yscale="log")
    for axes in panels:
        axes.grid(alpha=0.3)
    for text in panels[0].legend(fontsize="small").get_texts():
        text.set_parse_math(False)  # names of files, which are no formulas
    return figure


def running_mean(values: Sequence[float]) -> list[float]:
    """An exponential mean, corrected for its beginning: the first value is itself."""
    means, mean, weight = [], 0.0, 0.0
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + 1 - SMOOTHING
        means.append(mean / weight)
    return means
