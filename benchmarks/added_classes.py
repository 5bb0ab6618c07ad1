"""Classes added to a memory without its data, compared with a memory made of all classes at once.

    python -m benchmarks.added_classes [--dataset fashion-mnist] [--added 2] [--bases 16] [--rows 29] [--quick]

The last classes are added to an instant memory of the others, from their pictures alone. The other memory is made of
all pictures, with the same numbers stored. Fresh networks are trained on both by the same schedule and scored on the
test set, which is read once, at the end. --quick: digits and a narrow network. The last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.command import CPU, NARROW, command_parser, parse, print_figures
from benchmarks.instant_memories import instant_memory
from recall_server.core.bundle.bundle import MemoryBundle
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.evaluate import Accuracies, Runs, evaluate_labels
from trainer.methods.named import compose
from trainer.methods.specs.budget import MemoryBudget
from trainer.starts.add_classes import NewClass, add_classes


def first_classes(dataset: ImageDataset, count: int) -> ImageDataset:
    """The data set restricted to its first classes."""
    kept = dataset.with_each_split(lambda split: split.select(split.labels < count))
    return replace(kept, classes=dataset.classes[:count])


def memory_of(dataset: ImageDataset, options: argparse.Namespace, folder: Path) -> MemoryBundle:
    """An instant memory with the bases and rows of the options."""
    numbers = options.bases * (dataset.image_numbers / 4 + len(dataset.classes) * options.rows)
    budget = MemoryBudget(1.01 * numbers / len(dataset.classes) / dataset.image_numbers, options.bases, options.rows)
    method = compose("principal", NARROW if options.quick else [])
    return instant_memory(dataset, method, budget, folder / "memory.safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "threads", "quick")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--added", type=int, default=2)
    parser.add_argument("--bases", type=int, default=16)
    parser.add_argument("--rows", type=int, default=29)
    parser.add_argument("--runs", type=int, default=3)
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.bases, options.rows = "digits", 8, 6
    dataset = load_dataset(options.dataset)
    before = len(dataset.classes) - options.added
    with tempfile.TemporaryDirectory() as folder:
        together = memory_of(dataset, options, Path(folder))
        part = memory_of(first_classes(dataset, before), options, Path(folder))
    images = {
        name: dataset.train.images[dataset.train.labels == before + n]
        for n, name in enumerate(dataset.classes[before:])
    }
    apart = add_classes(part, [NewClass(name, pictures) for name, pictures in images.items()])
    results = {}
    for name, bundle in (("together", together), ("added", apart)):
        retraining = bundle.manifest.retraining
        results[name] = evaluate_labels(bundle, dataset.test, Runs(retraining, range(options.runs), CPU))
        print(f"{name}: {100 * results[name].mean:.2f} %", flush=True)
    print_figures(
        figures(results)
        | {
            "numbers_stored": together.memory.stored_numbers(),
            "numbers_stored_added": apart.memory.stored_numbers(),
            "classes": f"{before} + {options.added}",
            "dataset": dataset.name,
            "runs": options.runs,
        }
    )


def figures(results: dict[str, Accuracies]) -> dict[str, object]:
    """The accuracies of both memories and their difference in points."""
    together, added = results["together"], results["added"]
    return {
        "accuracy_together": round(together.mean, 4),
        "accuracy_added": round(added.mean, 4),
        "spread_together": round(together.spread, 4),
        "spread_added": round(added.spread, 4),
        "points_behind": round(100 * (together.mean - added.mean), 2),
    }


if __name__ == "__main__":
    main()
