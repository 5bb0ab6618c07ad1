"""Memories of pictures for a pre-trained encoder, beside memories of its features, at the same numbers.

    python -m benchmarks.picture_memories --encoder FILE.onnx [--data cifar10] [--images-per-class 1] [--quick]

Pictures are stored by the methods `random`, `mosaics` (also with hard targets) and `lgm-small`, recalled, and encoded.
Soft targets come on top of the numbers, and are counted in `numbers`. `exact` and class means store features, as int8.
Learners of all are those of `benchmarks.features`: a linear head, an MLP and kernel regression, selected on validation
features; the test features are read once. `linear_probe` learns from all training features. Accuracies in per cent,
those of `random` the mean of five draws. `seconds` are of the processor. --quick: two outer steps, and few pictures for
the teacher. The last line is JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.command import CPU, KeptCells, add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.feature_learners import Vectors
from benchmarks.features import Bench, read
from recall_server.core.memory import AbstractMemory
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.data.features import Featuriser
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import flattened
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.starts.features.trained_features import Schedule
from trainer.starts.real.mosaics import recalled_features

DRAWS = 5
QUICK = {"mosaics": ["start.teacher_pictures=20"], "lgm-small": ["objective.real_per_class=10", "outer.steps=2"]}


def distilled(method: Method, data: ImageDataset, images_per_class: float, seed: int) -> AbstractMemory:
    """The memory after all outer steps of the method."""
    fitted, generator = fit_preprocessing(data, method), torch.Generator().manual_seed(seed)
    budget = method.budget(data, images_per_class=method.images_with_targets(data, images_per_class), bases=0)
    components = method.build(Problem(data, fitted, generator, CPU), budget)
    limits = RunLimits(method.outer.steps, validate_every=method.outer.steps + 1)
    run = Distillation(components, method, run=flattened(method), limits=limits, generator=generator)
    # The objectives here hold their own real data, so the sampler needs few pictures.
    few = replace(data, train=data.train.select(torch.arange(0, len(data.train), 100)))
    tensors = run.distill(real_data(few, fitted, CPU))
    return components.memory.replace({name: tensors[name] for name in components.memory.learned()})


class Pictures:
    """Memories of pictures of one data set, as the learners of its features see them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._data = options, load_dataset(options.data)
        self._featurise = Featuriser(featuriser(options).encoder)  # recalled pictures are not cached
        self.bench = Bench(read(options.data, featuriser(options)), 1 if options.quick else 5, Schedule())

    def cell(self, name: str, overrides: Sequence[str] = (), draws: int = 1) -> dict[str, float]:
        """The figures of a method, the mean over draws."""
        quick = QUICK.get(name, []) if self._options.quick else []
        method = compose(name, [*overrides, *quick])
        seeds = range(self._options.seed, self._options.seed + draws)
        drawn = [self._measure(method, seed) for seed in seeds]
        return {key: round(sum(each[key] for each in drawn) / draws, 2) for key in drawn[0]}

    def _measure(self, method: Method, seed: int) -> dict[str, float]:
        began = time.process_time()
        memory = distilled(method, self._data, self._options.images_per_class, seed)
        seconds = time.process_time() - began
        queries = torch.eye(memory.query_size)
        features = recalled_features(memory, fit_preprocessing(self._data, method), self._featurise)
        targets = memory.targets.among(queries).expand(-1, memory.rows, -1).flatten(0, 1)
        figures = self.bench.measure(Vectors(features, targets))
        return figures | {"numbers": memory.stored_numbers(), "seconds": round(seconds, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "results", "seed", "threads", "quick")
    add_encoder(parser)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--outer-steps", type=int, default=400, help="of lgm-small")
    options = parse(parser, arguments)
    pictures = Pictures(options)
    settings = {
        name: getattr(options, name) for name in ("data", "images_per_class", "size", "seed", "outer_steps", "quick")
    }
    cells, bench = KeptCells(options.results, settings), pictures.bench
    cells.measure("random", lambda: pictures.cell("random", draws=1 if options.quick else DRAWS))
    size = f"start.size={options.size}"
    cells.measure("mosaics", lambda: pictures.cell("mosaics", [size]))
    cells.measure("mosaics_hard", lambda: pictures.cell("mosaics", [size, "memory.targets=hard"]))
    numbers = int(options.images_per_class * bench.data.classes * 32 * 32 * 3)
    cells.measure("exact", lambda: bench.memory(numbers))
    cells.measure("class_means", lambda: bench.measure(Vectors.of_classes(bench.means)))
    steps = [f"objective.size={options.size}", f"outer.steps={options.outer_steps}"]
    cells.measure("lgm", lambda: pictures.cell("lgm-small", steps))
    document: dict[str, Any] = settings | {"linear_probe": bench.probe(), "test": cells.cells}
    print_figures(document)


if __name__ == "__main__":
    main()
