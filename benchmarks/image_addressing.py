"""Few-shot classifiers of unnamed classes by three methods: the paper's Table 4.

    python -m benchmarks.image_addressing [--bundle FILE] [--one-shot-bundle FILE] [--image-size 16] [--device cuda]
                                          [--one-of-each-group] [--quick]

The memory (64 bases, 16 rows) and its query encoder are distilled together from all classes of CIFAR-100. A task has
five classes. A few test pictures of each are the shots, and all others are the test. Networks are trained on the
recalled images alone, as in the paper, and with the shots added, as in the server; the baseline of the latter is the
shots alone. `superclasses` are the data set's own 20 tasks, which are hard because their classes are similar. `random`
are 20 tasks that divide all classes at random; of fewer classes, some are used repeatedly. The paper does not say which
20 tasks it uses, so both are measured. The shots of each task are drawn several times. Intervals are 95 % confidence
intervals of the mean, and of paired differences between methods. Without FILE, a memory is distilled for each number of
shots and kept in --bundles. The length of the retraining is chosen on validation pictures; test pictures are read once.
For a CPU: --image-size shrinks all pictures to that many pixels a side, and --one-of-each-group takes 20 dissimilar
classes. --quick: digits, small networks. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import command_parser, parse, print_figures
from benchmarks.group_memories import groups_of
from benchmarks.smaller_data import one_of_each_group, shrunk
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.atomic import write_atomically
from trainer.cli import commands
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.evaluation.evaluate import Accuracies
from trainer.evaluation.few_shot.episodes import (
    CLASSIFIED,
    NEAREST_MEAN,
    RECALLED,
    SHOTS_ALONE,
    WITH_SHOTS,
    FewShot,
    FewShotTask,
    episode_of,
    evaluate_few_shot,
)
from trainer.methods.method import Method
from trainer.methods.overrides import given
from trainer.methods.specs.budget import MemoryBudget, Size
from trainer.run.setup.request import DistillRequest
from trainer.run.setup.starting_point import StartingPoint

SHOTS = (1, 5)
NAMES = {NEAREST_MEAN: "nearest class mean", CLASSIFIED: "classify, then recall", RECALLED: "image addressing"}
NAMES |= {SHOTS_ALONE: "shown pictures alone"}
NAMES |= {name + WITH_SHOTS: f"{NAMES[name]} + shown" for name in (CLASSIFIED, RECALLED)}
PAPER = {NEAREST_MEAN: (48.55, 61.72), CLASSIFIED: (50.58, 58.46), RECALLED: (55.74, 71.20)}
TASKS = 20
LENGTHS = (1, 2, 4)  # multiples of the steps of the memory's own schedule
BASES, ROWS = 64, 16
QUICK = [
    "objective.network=convnet:filters=8,depth=2",
    "retraining.network=convnet:filters=8,depth=2",
    "objective.eager=true",
]
QUICK += [
    "queries.encoder=convnet:filters=8,depth=2",
    "queries.size=8",
    "objective.classes_per_step=2",
    "retraining.steps=30",
]


def tasks_of(data: ImageDataset, ways: int, seed: int, tasks: int = TASKS) -> dict[str, list[list[int]]]:
    """The tasks by kind, each a list of class numbers: the data set's own groups, and random divisions of all classes.

    If one division gives fewer than `tasks` tasks, there are several. Raises ValueError for fewer than `ways` classes.
    """
    generator, each = torch.Generator().manual_seed(seed), len(data.classes) // ways
    if not each:
        raise ValueError(f"{data.name} has {len(data.classes)} classes, too few for a task of {ways}")
    dealt: list[list[int]] = []
    while len(dealt) < tasks:
        order = torch.randperm(len(data.classes), generator=generator).tolist()
        dealt += [order[start * ways : (start + 1) * ways] for start in range(each)]
    if not data.groups:
        return {"random": dealt[:tasks]}
    own = [[data.classes.index(member) for member in members] for members in groups_of(data, ways).values()]
    return {"superclasses": own, "random": dealt[:tasks]}


def episodes_of(
    split: Split, classes: tuple[str, ...], tasks: Sequence[Sequence[int]], *, shots: int, draws: int, seed: int
) -> list[FewShotTask]:
    """Each task `draws` times with other shots; tested on as many others as its smallest class has."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.bincount(split.labels, minlength=len(classes))
    return [
        episode_of(
            split,
            classes,
            chosen,
            shots=shots,
            tests=len(chosen) * (int(counts[list(chosen)].min()) - shots),
            generator=generator,
        )
        for chosen in tasks
        for _ in range(draws)
    ]


def longest_useful(few_shot: FewShot, episodes: Sequence[FewShotTask], lengths: Sequence[int]) -> FewShot:
    """The same with the length of the schedule that is best on validation episodes, the shortest of equal ones."""
    steps = few_shot.retraining.steps
    ways = [
        replace(few_shot, retraining=few_shot.retraining.model_copy(update={"steps": length * steps}))
        for length in lengths
    ]

    def score(way: FewShot) -> float:
        mean = way.accuracies(episodes, way.by_pictures).mean
        print(f"  {100 * mean:.2f} on validation with {way.retraining.steps} steps", flush=True)
        return mean

    return max(ways, key=score) if len(ways) > 1 else ways[0]


def cell(found: Accuracies) -> dict[str, Any]:
    return {
        "accuracy": round(found.mean, 4),
        "interval": round(found.interval, 4),
        "episodes": len(found.values),
    }


def measure(
    path: Path, data: ImageDataset, shots: int, options: argparse.Namespace, device: torch.device
) -> dict[str, dict[str, Any]]:
    """The cells of all methods for each kind of task, at this number of shots."""
    few_shot, seed = FewShot.of_bundle(path, device), options.seed
    kinds = tasks_of(data, options.ways, seed, options.tasks)
    shown = min(shots, int(torch.bincount(data.validation.labels).min()) // 2)
    choosing = [task for tasks in kinds.values() for task in tasks]
    validation = episodes_of(data.validation, data.classes, choosing, shots=shown, draws=1, seed=seed + 1)
    few_shot = longest_useful(few_shot, validation, options.lengths)
    known = few_shot.known_classes(data.train, len(data.classes))
    cells = {}
    for kind, tasks in kinds.items():
        episodes = episodes_of(data.test, data.classes, tasks, shots=shots, draws=options.draws, seed=seed)
        results = evaluate_few_shot(few_shot, episodes, known)
        for name, found in results.items():
            lead = cell(found.over(results[NEAREST_MEAN]))
            cells[f"{kind} {shots}-shot {name}"] = cell(found) | {"steps": few_shot.retraining.steps, "lead": lead}
    return cells


def distilled(data: ImageDataset, shots: int, options: argparse.Namespace, folder: Path, device: torch.device) -> Path:
    """The memory for this number of shots, distilled or resumed unless the folder has it.

    Raises ValueError if the folder has one that was started from another memory.
    """
    path = folder / f"{data.name}-{shots}-shots.safetensors"
    unfinished = path.with_suffix(".checkpoint").exists()
    begin = StartingPoint.read(options.start)
    if path.exists() and not unfinished:
        made = MemoryBundle.load(path).manifest.provenance
        if begin.bundle is not None and made.hyper_parameters.get("start_sha256") != begin.bundle.sha256:
            raise ValueError(f"{path.name} exists, but not from --start; choose another folder for --bundles")
        if made.method != options.method:
            raise ValueError(f"{path.name} exists, by {made.method}; choose another folder for --bundles")
        return path
    fields = [f"queries.shots={shots}", *options.set, *given(outer__steps=options.outer_steps)]
    method = begin.method(options.method, fields)
    size = Size(options.images_per_class, options.bases, options.rows)
    request = DistillRequest(
        dataset=data,
        method=method,
        budget=_budget(data, method, size) if begin.bundle is None else MemoryBudget.of_bundle(begin.bundle, size),
        output=path.resolve(),
        seed=options.seed,
        device=device,
        limits=commands.limits_of(
            method, outer_steps=options.outer_steps, minutes=options.minutes, validate_every=options.validate_every
        ),
        resume=unfinished,
        begin=begin,
        overwrite=True,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoders").mkdir(exist_ok=True)
    commands.distill(request)
    return path


def _budget(data: ImageDataset, method: Method, size: Size) -> MemoryBudget:
    """The paper's bases and rows, with the smallest whole number of images per class that fits them."""
    bases, rows = size.bases or BASES, size.rows or ROWS
    least = math.ceil(method.memory.numbers(method.shape(data), bases, rows) / (len(data.classes) * data.image_numbers))
    return method.budget(data, images_per_class=size.images_per_class or least, bases=bases, rows=rows)


def table(cells: Mapping[str, Mapping[str, Any]], kinds: Sequence[str], sizes: Sequence[int]) -> str:
    """A table of accuracies with intervals, leads over the nearest class mean, and the paper's figures, in percent."""
    columns = [(kind, shots) for kind in kinds for shots in sizes]
    lines = [f"{'':32}" + "".join(f"{f'{kind}, {shots}-shot':>24}" for kind, shots in columns) + f"{'paper':>16}"]
    for name, words in NAMES.items():
        found = [cells[f"{kind} {shots}-shot {name}"] for kind, shots in columns]
        lines.append(f"{words:32}{_line(found)}{' / '.join(f'{value:.2f}' for value in PAPER.get(name, ())):>16}")
        if name.startswith(RECALLED):
            lines.append(f"{'  over nearest class mean':32}{_line([each['lead'] for each in found])}")
    return "\n".join(lines)


def _line(found: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{100 * each['accuracy']:16.2f} ±{100 * each['interval']:5.2f} " for each in found)


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, "seed", "device", "threads", "quick")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--one-of-each-group", action="store_true", help="use the first class of every superclass")
    parser.add_argument("--image-size", type=int, help="shrink pictures to this many pixels a side")
    parser.add_argument("--bundle", type=Path, help="a memory addressed by pictures, for both numbers of shots")
    parser.add_argument("--one-shot-bundle", type=Path, help="another memory, for one shot")
    parser.add_argument("--bundles", type=Path, help="a folder in which distilled memories are kept for other runs")
    parser.add_argument("--start", help="a memory from which distilling starts")
    parser.add_argument("--method", default="image-addressing", help="image-addressing or image-addressing-warm")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as `recall-trainer distill`")
    parser.add_argument("--images-per-class", type=float, help="the budget of each memory; default: as many as needed")
    parser.add_argument("--bases", type=int, help=f"bases per memory; default: {BASES}")
    parser.add_argument("--rows", type=int, help=f"rows per memory; default: {ROWS}")
    parser.add_argument("--outer-steps", type=int, help="outer steps per memory")
    parser.add_argument("--minutes", type=float, help="minutes per memory")
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--shots", type=int, nargs="+", choices=SHOTS, default=SHOTS)
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--tasks", type=int, help=f"random tasks; default: {TASKS}")
    parser.add_argument("--draws", type=int, default=5, help="draws of shots per task")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=LENGTHS, help="candidate multiples of the schedule's length"
    )
    parser.add_argument("--results", type=Path, help="a JSON file for the figures")
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.set, options.bases, options.rows = "digits", [*QUICK, *options.set], 4, 4
        options.outer_steps, options.draws, options.lengths = options.outer_steps or 10, 1, (1, 2)
        options.tasks = options.tasks or 2
    options.tasks = options.tasks or TASKS
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = read(arguments)
    device, data = commands.pick_device(options.device), load_dataset(options.dataset)
    if options.one_of_each_group:
        data = one_of_each_group(data)
    if options.image_size:
        data = shrunk(data, options.image_size)
    cells: dict[str, dict[str, Any]] = {}
    seconds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.bundles or Path(temporary)
        for shots in options.shots:
            given_bundle = options.one_shot_bundle if shots == 1 and options.one_shot_bundle else options.bundle
            path = given_bundle or distilled(data, shots, options, folder, device)
            started = time.perf_counter()
            cells |= measure(path, data, shots, options, device)
            seconds[f"seconds_{shots}_shots"] = round(time.perf_counter() - started, 1)
            if options.results:
                write_atomically(options.results, json.dumps({"cells": cells}, indent=1).encode())
    print(table(cells, list(tasks_of(data, options.ways, options.seed, options.tasks)), options.shots))
    print_figures({"cells": cells, "dataset": data.name, "ways": options.ways, **seconds}, device)


if __name__ == "__main__":
    main()
