"""Classifiers of one class from each of two memories, against the same pairs from one memory made of both.

    python -m benchmarks.across [--dataset fashion-mnist] [--images-per-class 1] [--partitions 2] [--quick]

The classes are dealt into two halves. Each half becomes an instant memory of its own, and all classes together another
one, with the same number of stored numbers for each class and the same schedule. For every pair with a class in each
half, fresh networks are trained on what the two memories recall where they meet, and on what the one recalls; both are
scored on the test pictures of those classes, which are read once. --quick: digits, a narrow network, 8 pairs.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.quality import relabelled
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.core.training.device import device_name
from recall_server.recall.training_set import BundleQuery, build_training_set
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.evaluate import fresh_accuracy
from trainer.methods.named import compose
from trainer.run.progress import RunLimits
from trainer.run.request import DistillRequest
from trainer.run.search.instant import InstantRun, budgets

CPU = torch.device("cpu")
NARROW = [f"{part}network=convnet:filters=16,depth=2" for part in ("objective.", "retraining.")]


@dataclass(frozen=True)
class Comparison:
    """One pair: accuracy of classifiers from two memories and from one."""

    labels: tuple[str, str]
    across: float
    together: float


def some_classes(dataset: ImageDataset, chosen: Sequence[int]) -> ImageDataset:
    """The same data set with these classes alone, in this order; groups of all classes are not theirs."""
    return replace(
        dataset,
        classes=tuple(dataset.classes[number] for number in chosen),
        train=relabelled(dataset.train, chosen),
        validation=relabelled(dataset.validation, chosen),
        test=relabelled(dataset.test, chosen),
        groups={},
    )


def memory_of(dataset: ImageDataset, name: str, options: argparse.Namespace, folder: Path) -> MemoryBundle:
    """An instant memory by the method's first guess, which is the same for every data set."""
    method = compose("principal", NARROW if options.quick else [])
    budget = budgets(dataset, method, images_per_class=options.images_per_class)[0]
    request = DistillRequest(
        dataset=dataset,
        method=method,
        budget=budget,
        output=folder / f"{name}.safetensors",
        seed=0,
        device=CPU,
        limits=RunLimits(0),
        resume=False,
        overwrite=True,
    )
    run = InstantRun(request, None, lambda sentence: print(f"  {name}: {sentence}", flush=True))
    run.consider(method, budget)
    return MemoryBundle.load(request.output)


def halves(classes: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """All classes, dealt at random into two halves."""
    dealt: list[int] = torch.randperm(classes, generator=generator).tolist()
    return sorted(dealt[: classes // 2]), sorted(dealt[classes // 2 :])


def accuracy(bundles: tuple[MemoryBundle, MemoryBundle], pair: list[int], dataset: ImageDataset, seeds: range) -> float:
    """Of fresh classifiers of the two classes, each recalled from its own bundle, or both from the same."""
    labels = [dataset.classes[number] for number in pair]
    queries = [
        BundleQuery(bundle, bundle.label_queries([label])[0]) for bundle, label in zip(bundles, labels, strict=True)
    ]
    met = build_training_set(queries)
    return fresh_accuracy(
        met.images,
        met.targets,
        relabelled(dataset.test, pair),
        labels=labels,
        preprocessing=met.preprocessing,
        retraining=met.retraining,
        seeds=seeds,
        device=CPU,
    ).mean


def compare(dataset: ImageDataset, options: argparse.Namespace) -> Iterator[Comparison]:
    """Every pair of every partition."""
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
    """Mean accuracy of both, and the points lost with half the width of their 95 % interval over the pairs."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--partitions", type=int, default=2, help="how often the classes are dealt into halves")
    parser.add_argument("--pairs", type=int, default=None, help="drawn from each partition; all if not given")
    parser.add_argument("--runs", type=int, default=1, help="networks for each pair and memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.quick:
        options.dataset, options.partitions, options.pairs = "digits", 1, options.pairs or 8
    dataset = load_dataset(options.dataset)
    comparisons = []
    for each in compare(dataset, options):
        comparisons.append(each)
        print(f"{' / '.join(each.labels):28} {100 * each.across:6.2f} {100 * each.together:6.2f}", flush=True)
    document = figures(comparisons) | {"dataset": dataset.name, "runs": options.runs, "device": device_name(CPU)}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
