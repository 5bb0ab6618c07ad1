"""Classifiers of two classes from two memories, compared with the same pairs from one memory of all classes.

    python -m benchmarks.across [--dataset fashion-mnist] [--images-per-class 1] [--partitions 2] [--quick]

The classes are split into two random halves. Each half becomes an instant memory, and so do all classes together, with
the same numbers stored per class and the same schedule. For every pair with one class in each half, fresh networks are
trained on images recalled from the two memories, and on images from the one. Both are scored on the test pictures of
these classes, which are read once. --quick: digits, a narrow network, 8 pairs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.command import CPU, NARROW, command_parser, parse, print_figures
from benchmarks.instant_memories import instant_memory
from benchmarks.quality import relabelled
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.recall.training_set import BundleQuery, build_training_set
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.evaluate import Runs, fresh_accuracy
from trainer.methods.named import compose
from trainer.run.search.instant import budgets


@dataclass(frozen=True)
class Comparison:
    """One pair of classes, with the accuracy of its classifiers from two memories and from one."""

    labels: tuple[str, str]
    across: float
    together: float


def some_classes(dataset: ImageDataset, chosen: Sequence[int]) -> ImageDataset:
    """The data set restricted to these classes, in this order and without groups."""
    return replace(
        dataset,
        classes=tuple(dataset.classes[number] for number in chosen),
        train=relabelled(dataset.train, chosen),
        validation=relabelled(dataset.validation, chosen),
        test=relabelled(dataset.test, chosen),
        groups={},
    )


def memory_of(dataset: ImageDataset, name: str, options: argparse.Namespace, folder: Path) -> MemoryBundle:
    """An instant memory with the method's first budget, which does not depend on the data."""
    method = compose("principal", NARROW if options.quick else [])
    budget = budgets(dataset, method, images_per_class=options.images_per_class)[0]
    return instant_memory(dataset, method, budget, folder / f"{name}.safetensors")


def halves(classes: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """All classes, split at random into two halves."""
    shuffled: list[int] = torch.randperm(classes, generator=generator).tolist()
    return sorted(shuffled[: classes // 2]), sorted(shuffled[classes // 2 :])


def accuracy(bundles: tuple[MemoryBundle, MemoryBundle], pair: list[int], dataset: ImageDataset, seeds: range) -> float:
    """Accuracy of fresh classifiers of the two classes, recalled from these two bundles, which may be the same."""
    labels = [dataset.classes[number] for number in pair]
    queries = [
        BundleQuery(bundle, bundle.label_queries([label])[0]) for bundle, label in zip(bundles, labels, strict=True)
    ]
    training = build_training_set(queries)
    return fresh_accuracy(
        training.images,
        training.targets,
        relabelled(dataset.test, pair),
        Runs(training.retraining, seeds, CPU),
        labels=labels,
        preprocessing=training.preprocessing,
    ).mean


def compare(dataset: ImageDataset, options: argparse.Namespace) -> Iterator[Comparison]:
    """Yield the comparison of every pair of every partition."""
    generator, seeds = torch.Generator().manual_seed(options.seed), range(options.runs)
    with tempfile.TemporaryDirectory() as folder:
        whole = memory_of(dataset, "together", options, Path(folder))
        for _ in range(options.partitions):
            sides = halves(len(dataset.classes), generator)
            one, other = (
                memory_of(some_classes(dataset, side), name, options, Path(folder))
                for name, side in zip(("one-half", "other-half"), sides, strict=True)
            )
            pairs = [[first, second] for first in sides[0] for second in sides[1]]
            for number in torch.randperm(len(pairs), generator=generator)[: options.pairs].tolist():
                pair = pairs[number]
                across = accuracy((one, other), pair, dataset, seeds)
                together = accuracy((whole, whole), pair, dataset, seeds)
                yield Comparison((dataset.classes[pair[0]], dataset.classes[pair[1]]), across, together)


def figures(comparisons: Sequence[Comparison]) -> dict[str, float | int]:
    """Mean accuracies, and the points lost with half the width of their 95 % confidence interval over the pairs."""
    lost = [100 * (each.together - each.across) for each in comparisons]
    spread = statistics.stdev(lost) if len(lost) > 1 else 0.0
    return {
        "accuracy_across": round(statistics.mean(each.across for each in comparisons), 4),
        "accuracy_together": round(statistics.mean(each.together for each in comparisons), 4),
        "points_lost": round(statistics.mean(lost), 2),
        "points_lost_interval": round(1.96 * spread / math.sqrt(len(lost)), 2),
        "most_points_lost": round(max(lost), 2),
        "pairs": len(lost),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "threads", "quick")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--partitions", type=int, default=2, help="number of random splits into halves")
    parser.add_argument("--pairs", type=int, default=None, help="random pairs per partition; default: all")
    parser.add_argument("--runs", type=int, default=1, help="networks per pair and memory")
    options = parse(parser, arguments)
    if options.quick:
        options.dataset, options.partitions, options.pairs = "digits", 1, options.pairs or 8
    dataset = load_dataset(options.dataset)
    comparisons = []
    for each in compare(dataset, options):
        comparisons.append(each)
        print(f"{' / '.join(each.labels):28} {100 * each.across:6.2f} {100 * each.together:6.2f}", flush=True)
    document = figures(comparisons) | {"dataset": dataset.name, "runs": options.runs}
    print_figures(document)


if __name__ == "__main__":
    main()
