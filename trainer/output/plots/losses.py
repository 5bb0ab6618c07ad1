"""Plots outer loss and gradient norm against outer steps, from the metrics file of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.output.plots.figures import empty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHING = 0.95  # of the running mean, which is drawn over the values


def losses(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Curves of metrics files, one colour per run. Raises ValueError for a run without outer steps."""
    figure = empty(8, 3.4)
    panels = figure.subplots(1, 2)
    for name, lines in runs.items():
        steps = [line for line in lines if line.get("loss") is not None]
        if not steps:
            raise ValueError(f"{name} has no outer step with a loss")
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
        text.set_parse_math(False)  # file names must not be read as formulas
    return figure


def running_mean(values: Sequence[float]) -> list[float]:
    """The exponential moving average with bias correction; the first value is unchanged."""
    means, mean, weight = [], 0.0, 0.0
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + 1 - SMOOTHING
        means.append(mean / weight)
    return means
