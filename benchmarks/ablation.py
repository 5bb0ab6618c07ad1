"""The paper's ablations of backpropagation through training: Table 8 (momentum) and figure 4 (inner steps).

    python -m benchmarks.ablation [--outer-steps N] [--seeds N] [--results FILE] [--plot FILE.png] [--quick]

One stored picture per class of Fashion-MNIST is distilled by BPTT with T inner steps: without momentum, with momentum
in the forward training only, and with momentum that is differentiated too. Everything else is the same in all cells: a
ConvNet of depth 3 and width 16, the inner rate, the number of outer steps. The paper uses 50,000 outer steps, width 128
and, in Table 8, 200 inner steps on CIFAR-10, so compare trends and not figures. Accuracies are those of fresh networks
on validation pictures, trained in the same way for every T; the test set is not read. Results are saved to FILE after
every cell, and cells in FILE are not run again. --quick: scikit-learn's digits, few steps. The last line is JSON.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.command import CPU, KeptCells, command_parser, parse, print_figures
from recall_server.core.io.atomic import write_atomically
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.paper import MOMENTA
from trainer.output.plots.figures import empty, to_bytes
from trainer.run.progress import RunLimits
from trainer.run.search.trial import trial

SMALL = [
    "preprocessing=standardise", "objective.augmentation=none", "objective.rate=0.02",
    "outer.optimiser=adam", "outer.rate=0.02", "outer.decay=cosine",
    "objective.real_batch=200", "retraining.steps=100", "retraining.learning_rate=0.02",
    "retraining.rows_per_class=1", "objective.eager=true",
]  # fmt: skip
WIDE, NARROW = "network=convnet:filters=16", "network=convnet:filters=8,depth=2"
STEPS, QUICK_STEPS = (1, 2, 5, 10, 20, 40), (1, 5)
QUICK = ["retraining.steps=20"]


def method(momentum: str, steps: int, outer_steps: int, network: str, *, quick: bool) -> Method:
    """BPTT on stored pictures with T = `steps`."""
    fields = [
        f"objective.steps={steps}",
        f"objective.window={steps}",
        f"outer.steps={outer_steps}",
        f"objective.{network}",
        f"retraining.{network}",
    ]
    return compose("bptt", [*SMALL, *fields, *(QUICK if quick else [])]).varied(objective=MOMENTA[momentum])


def cell(dataset: ImageDataset, chosen: Method, seeds: int) -> dict[str, Any]:
    """The best validation accuracy of a run for each seed, and what noise alone scores."""
    limits = RunLimits(chosen.outer.steps, validate_every=max(1, chosen.outer.steps // 4))
    budget = chosen.budget(dataset, images_per_class=1, bases=0, rows=None)
    runs = [trial(dataset, chosen, budget, limits=limits, seed=seed, device=CPU) for seed in range(seeds)]
    best = [max(point.accuracy for point in history) for history in runs]
    return {
        "accuracy": round(statistics.fmean(best), 4),
        "spread": round(statistics.stdev(best), 4) if seeds > 1 else 0.0,
        "start": round(statistics.fmean(history[0].accuracy for history in runs), 4),
        "seconds": round(statistics.fmean(history[-1].seconds for history in runs), 1),
    }


def table_8(cells: Mapping[str, Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Accuracy for each kind of momentum at the largest number of inner steps."""
    return {momentum: cells[f"{momentum} {steps}"]["accuracy"] for momentum in MOMENTA}


def figure_4(cells: Mapping[str, Mapping[str, Any]], lengths: Sequence[int]) -> dict[str, dict[int, float]]:
    """Accuracy by T for each kind of momentum; the paper's figure has two of the three."""
    return {momentum: {steps: cells[f"{momentum} {steps}"]["accuracy"] for steps in lengths} for momentum in MOMENTA}


def draw(figures: Mapping[str, Any], path: Path, title: str) -> None:
    """Plot figure 4 and Table 8 side by side, as a PNG."""
    drawn = empty(8, 3.4)
    left, right = drawn.subplots(1, 2)
    for momentum, curve in figures["figure4"].items():
        left.plot(list(curve), [100 * accuracy for accuracy in curve.values()], marker=".", label=momentum)
    left.set_xscale("log")
    left.set_xticks(
        list(figures["figure4"]["full-momentum"]), [str(each) for each in figures["figure4"]["full-momentum"]]
    )
    left.minorticks_off()
    left.set(xlabel="inner steps T (figure 4)", ylabel="accuracy on validation pictures, %")
    left.legend(fontsize="small")
    names = list(figures["table8"])
    kinds = [name.removesuffix("-momentum") for name in names]
    right.bar(kinds, [100 * figures["table8"][name] for name in names])
    right.set(xlabel=f"momentum, T = {max(figures['figure4']['full-momentum'])} (Table 8)")
    drawn.suptitle(title, fontsize="medium")
    write_atomically(path, to_bytes(drawn, "png"))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "results", "threads", "quick")
    parser.add_argument("--outer-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="a PNG to write")
    options = parse(parser, arguments)
    lengths, network = (QUICK_STEPS, NARROW) if options.quick else (STEPS, WIDE)
    outer_steps, seeds = (8, 1) if options.quick else (options.outer_steps, options.seeds)
    source = "digits" if options.quick else "fashion-mnist"
    described = {"dataset": source, "outer_steps": outer_steps, "seeds": seeds, "network": network}
    kept = KeptCells(options.results, described)
    dataset = load_dataset(source)
    for steps, momentum in itertools.product(lengths, MOMENTA):
        chosen = method(momentum, steps, outer_steps, network, quick=options.quick)
        kept.measure(f"{momentum} {steps}", partial(cell, dataset, chosen, seeds))
    figures: dict[str, Any] = {"table8": table_8(kept.cells, max(lengths)), "figure4": figure_4(kept.cells, lengths)}
    if options.plot:
        draw(figures, options.plot, f"BPTT on {dataset.name}, one stored picture per class, {outer_steps} outer steps")
    print_figures(figures | {"cells": kept.cells} | described)


if __name__ == "__main__":
    main()
