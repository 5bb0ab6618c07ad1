"""Classifiers of k classes, each recalled from a different one of 20 memories (paper, section 5.3.1).

    python -m benchmarks.extrapolation [--bundles FOLDER] [--outer-steps N] [--tasks 1000] [--results FILE] [--quick]

The 20 superclasses of CIFAR-100 are distilled separately into 20 memories at one image per class. A task is k random
superclasses with one random class of each. Their recalled images are combined in pixel space; a fresh network is
trained on them and scored on the test pictures of these classes. The baselines use tasks drawn in the same way: random
real pictures of the same number of floats, and all real training pictures, the upper bound. The training schedules are
chosen on validation pictures of other tasks; test pictures are read once. Intervals are 95 % confidence intervals of
the mean over tasks. Memories are kept in FOLDER and not distilled again; figures are kept in FILE. --quick:
scikit-learn's digits in groups of two, small networks, few tasks. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import KeptCells, command_parser, parse, print_figures
from benchmarks.group_memories import Recipe, groups_of, memories
from benchmarks.meeting_classes import Chosen, Memories, RealPictures, Scored, Source, drawn
from recall_server.core.training.retraining import Retraining
from recall_server.errors import TrainingFailed
from trainer.cli import commands
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.evaluate import Accuracies
from trainer.evaluation.few_shot.fresh_tasks import FreshTask, fresh_accuracies
from trainer.methods.named import compose
from trainer.methods.overrides import given

WAYS = (2, 5)
RECALLED, RANDOM, ALL = "recalled", "random real pictures, same number of floats", "all real training pictures"
PAPER = {2: {RECALLED: 72.53, ALL: 92.23}, 5: {RECALLED: 46.54, ALL: 82.72}}
LENGTHS = (1, 2, 4)  # multiples of the steps of the memories' own schedule
REAL_ROWS = 16  # pictures per class in a minibatch of the upper bound
REAL_RATES = (0.01, 0.03)
SMALL = [
    "objective.network=convnet:filters=8,depth=2",
    "retraining.network=convnet:filters=8,depth=2",
    "objective.eager=true",
]
SMALL += ["retraining.steps=30"]


@dataclass(frozen=True)
class Contender:
    """Training data, with one or more sources and schedules to choose from on validation pictures."""

    name: str
    sources: Mapping[str, Source]
    schedules: Mapping[str, Retraining]
    tasks: int


def accuracies(
    source: Source, tasks: Sequence[Chosen], scored: Scored, retraining: Retraining, device: torch.device
) -> Accuracies:
    """Accuracy of a fresh network for each task; the task's index is its seed."""

    def made() -> Iterator[FreshTask]:
        for seed, chosen in enumerate(tasks):
            images, preprocessing = source(chosen, seed)
            yield FreshTask(images, preprocessing, scored.of(chosen), seed)

    return Accuracies(fresh_accuracies(made(), retraining, device=device))


def choose(
    contender: Contender, tasks: Sequence[Chosen], validation: Scored, device: torch.device
) -> tuple[str, Source, Retraining]:
    """The best pair of source and schedule on validation pictures, the first of equal ones."""
    pairs = [
        (f"{way}, {words}", source, retraining)
        for way, source in contender.sources.items()
        for words, retraining in contender.schedules.items()
    ]

    def score(pair: tuple[str, Source, Retraining]) -> float:
        words, source, retraining = pair
        try:
            mean = accuracies(source, tasks, validation, retraining, device).mean
        except TrainingFailed:
            return 0.0
        print(f"  {contender.name}: {100 * mean:.2f} on validation with {words}", flush=True)
        return mean

    return max(pairs, key=score) if len(pairs) > 1 and tasks else pairs[0]


def contenders(
    own: Memories, data: ImageDataset, options: argparse.Namespace, device: torch.device
) -> Iterator[Contender]:
    """Yield the contenders. The upper bound has few tasks, because each of them takes as long as many others."""
    retraining, train = own.retraining, RealPictures(data.train, len(data.classes), device)
    longer = {
        f"{length * retraining.steps} steps": retraining.model_copy(update={"steps": length * retraining.steps})
        for length in options.lengths
    }
    yield Contender(RECALLED, own.sources(), longer, options.tasks)
    each = max(1, int(options.images_per_class))
    yield Contender(RANDOM, {f"{each} of each class": train.some(each)}, longer, options.tasks)
    real = {
        f"{options.real_steps} steps at {rate:g}": Retraining(
            network=retraining.network,
            steps=options.real_steps,
            learning_rate=rate,
            rows_per_class=REAL_ROWS,
            decay="cosine",
            augmentation="flip" if data.image_shape[0] == 3 else "none",
        )
        for rate in REAL_RATES
    }
    yield Contender(ALL, {"every one": train.all}, real, options.real_tasks)


def cell(
    contender: Contender, tasks: Mapping[str, Sequence[Chosen]], scored: Mapping[str, Scored], device: torch.device
) -> dict[str, Any]:
    """One contender at one k: chosen on validation pictures, then measured on test pictures."""
    started = time.perf_counter()
    # The upper bound chooses only among rates, and its networks take long.
    choosing = tasks["validation"][: max(1, contender.tasks // 4)]
    words, source, retraining = choose(contender, choosing, scored["validation"], device)
    found = accuracies(source, tasks["test"][: contender.tasks], scored["test"], retraining, device)
    return {
        "accuracy": round(found.mean, 4),
        "interval": round(found.interval, 4),
        "spread": round(found.spread, 4),
        "tasks": len(found.values),
        "trained": words,
        "seconds": round(time.perf_counter() - started, 1),
    }


def table(cells: Mapping[str, Mapping[str, Any]], sizes: Sequence[int]) -> str:
    """A table of accuracies with their intervals and the paper's figures, in percent."""
    lines = [f"{'':46}" + "".join(f"{f'{ways}-way':>16}{'paper':>8}" for ways in sizes)]
    for name in (RECALLED, RANDOM, ALL):
        line = f"{name:46}"
        for ways in sizes:
            each, paper = cells[f"{ways}-way {name}"], PAPER.get(ways, {}).get(name)
            line += f"{100 * each['accuracy']:8.2f} ±{100 * each['interval']:5.2f} "
            line += f"{paper:8.2f}" if paper else f"{'':8}"
        lines.append(f"{line}  ({', '.join(str(cells[f'{ways}-way {name}']['tasks']) for ways in sizes)} tasks)")
    return "\n".join(lines)


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, "results", "seed", "device", "threads", "quick")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--group-size", type=int, default=5, help="classes per memory, for a data set without groups")
    parser.add_argument("--method", default="window")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as `recall-trainer distill`")
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--bases", type=int, default=8, help="bases per memory")
    parser.add_argument("--outer-steps", type=int, help="outer steps per memory")
    parser.add_argument("--minutes-per-bundle", type=float)
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1, help="parallel processes that distill")
    parser.add_argument("--bundles", type=Path, help="a folder in which memories are kept for other runs")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks per k")
    parser.add_argument("--ways", type=int, nargs="+", default=WAYS, help="the values of k, the classes per task")
    parser.add_argument("--real-tasks", type=int, default=60, help="tasks per k of the upper bound")
    parser.add_argument("--real-steps", type=int, default=1000, help="training steps on all real pictures")
    parser.add_argument("--choosing", type=int, default=100, help="validation tasks; 0 disables the choice")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=LENGTHS, help="candidate multiples of the schedule's length"
    )
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.group_size, options.bases, options.set = "digits", 2, 4, [*SMALL, *options.set]
        options.outer_steps, options.tasks = options.outer_steps or 20, 6
        options.real_tasks, options.real_steps = 3, 40
        options.choosing, options.lengths = 2, (1, 2)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = read(arguments)
    device, data = commands.pick_device(options.device), load_dataset(options.dataset)
    groups = groups_of(data, options.group_size)
    if not 2 <= min(options.ways) <= max(options.ways) <= len(groups):
        raise SystemExit(f"{data.name} has {len(groups)} groups of classes, so tasks have 2 to {len(groups)} classes")
    same = ("images_per_class", "bases", "seed", "outer_steps", "validate_every")
    recipe = Recipe(
        source=options.dataset,
        method=compose(options.method, [*options.set, *given(outer__steps=options.outer_steps)]),
        device=device.type,
        minutes=options.minutes_per_bundle,
        **{name: getattr(options, name) for name in same},
    )
    described = recipe.describe(data) | {
        name: getattr(options, name) for name in ("tasks", "real_tasks", "real_steps", "choosing", "lengths")
    }
    kept, started = KeptCells(options.results, described), time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.bundles or Path(temporary)
        own = Memories(memories(recipe, data, groups, folder, workers=options.workers), data.classes, device)
    distilled = round(time.perf_counter() - started, 1)
    scored = {"validation": data.validation, "test": data.test}
    by_class = {name: Scored(split, len(data.classes), device) for name, split in scored.items()}
    numbers = [[data.classes.index(member) for member in members] for members in groups.values()]
    for ways in options.ways:
        tasks = {
            "validation": drawn(numbers, ways, options.choosing, seed=options.seed + 1_000_003),
            "test": drawn(numbers, ways, options.tasks, seed=options.seed),
        }
        for contender in contenders(own, data, options, device):
            kept.measure(f"{ways}-way {contender.name}", partial(cell, contender, tasks, by_class, device))
    print(table(kept.cells, options.ways))
    seconds = statistics.fmean(bundle.manifest.provenance.seconds for bundle in own.bundles.values())
    document = {"cells": kept.cells, "dataset": data.name, "memories": len(groups)}
    document |= {"seconds_of_a_memory": round(seconds, 1), "seconds_of_all_memories": distilled}
    print_figures(document, device)


if __name__ == "__main__":
    main()
