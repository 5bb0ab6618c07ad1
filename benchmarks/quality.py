"""The error of the server's accuracy estimates: estimated accuracies compared with measured ones.

    python -m benchmarks.quality [--data fashion-mnist] [--tasks 10] [--runs 3] [--quick]

For random pairs and triples of classes, a classifier is trained as by the server and scored on test pictures. This is
compared with the server's estimate, and with a guess that needs no estimate. For classifiers of labels, the memory is
evaluated on half of the test pictures, and each classifier is scored on the other half. For classifiers of pictures,
the estimate is leave-one-out on 5 pictures per class, and each classifier is scored on others. Errors are fractions; a
positive bias means that the estimate is too high. --quick: digits, three pairs and three triples. The last line is
JSON.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.command import CPU, command_parser, print_figures
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.classifier.expected_accuracy import quality_of_labels, quality_of_pictures
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.evaluation.evaluate import Runs, evaluate_labels, fresh_accuracy
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode

BUNDLES = Path(__file__).resolve().parent.parent / "artifacts" / "bundles"
WAYS = (2, 3)
SHOTS, TESTS = 5, 300


class Comparison(NamedTuple):
    """One classifier: `promised` is the estimate, `otherwise` the guess without it, `found` the measured accuracy."""

    labels: tuple[str, ...]
    promised: float
    otherwise: float
    found: float

    def __str__(self) -> str:
        shares = f"promised {100 * self.promised:5.1f}, found {100 * self.found:5.1f}"
        return f"{' / '.join(self.labels):40} {shares}"


def halves(split: Split, classes: int) -> tuple[Split, Split]:
    """Two halves of a split, with alternate pictures of each class."""
    order = [torch.nonzero(split.labels == label).flatten() for label in range(classes)]
    return split.select(torch.cat([each[::2] for each in order])), split.select(
        torch.cat([each[1::2] for each in order])
    )


def drawn(classes: int, tasks: int, generator: torch.Generator) -> Iterator[list[int]]:
    """`tasks` random sets of classes of each size."""
    for ways in WAYS:
        for _ in range(tasks):
            yield torch.randperm(classes, generator=generator)[:ways].tolist()


def compare_labels(
    bundle: MemoryBundle, dataset: ImageDataset, tasks: int, runs: int, seed: int
) -> Iterator[Comparison]:
    """Yield comparisons for classifiers of labels, estimated from the confusions of `runs` networks of all labels."""
    retraining = bundle.manifest.retraining
    seen, unseen = halves(dataset.test, len(dataset.classes))
    measured = evaluate_labels(bundle, seen, Runs(retraining, range(1000, 1000 + runs), CPU))
    row = measured.row(network=str(retraining.network), protocol="bundle", data=f"half of {dataset.name} test")
    manifest = bundle.with_accuracy([row]).manifest
    for number, chosen in enumerate(drawn(len(dataset.classes), tasks, torch.Generator().manual_seed(seed))):
        labels = tuple(dataset.classes[label] for label in chosen)
        quality = quality_of_labels(manifest, labels)
        if quality is None:
            continue
        found = fresh_accuracy(
            *bundle.recall(bundle.label_queries(labels)),
            relabelled(unseen, chosen),
            Runs(retraining, [seed + number], CPU),
            labels=labels,
            preprocessing=bundle.preprocessing,
        )
        yield Comparison(labels, quality.accuracy, measured.mean, found.mean)


def relabelled(split: Split, chosen: Sequence[int]) -> Split:
    """The pictures of these classes only, labelled 0, 1, ... in this order."""
    members = [torch.nonzero(split.labels == label).flatten() for label in chosen]
    numbers = torch.cat([torch.full((len(each),), number) for number, each in enumerate(members)])
    return Split(split.images[torch.cat(members)], numbers)


def compare_pictures(path: Path, dataset: ImageDataset, tasks: int, seed: int) -> Iterator[Comparison]:
    """Yield comparisons for classifiers of pictures, estimated by leave-one-out."""
    few_shot, generator = FewShot.of_bundle(path, CPU), torch.Generator().manual_seed(seed)
    overall = MemoryBundle.load(path).manifest.accuracy[-1].mean
    for number, ways in enumerate([ways for ways in WAYS for _ in range(tasks)]):
        episode = draw_episode(dataset.test, dataset.classes, ways=ways, shots=SHOTS, tests=TESTS, generator=generator)
        features = {name: few_shot.encode(shots) for name, shots in zip(episode.labels, episode.shots, strict=True)}
        quality = quality_of_pictures(features)
        if quality is not None:
            yield Comparison(episode.labels, quality.accuracy, overall, few_shot.recalled(episode, seed + number))


def told(title: str, comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Print each comparison as it comes, and return all of them."""
    sys.stdout.write(f"{title}\n")
    kept = []
    for comparison in comparisons:
        sys.stdout.write(f"  {comparison}\n")
        sys.stdout.flush()
        kept.append(comparison)
    return kept


def figures(name: str, comparisons: Sequence[Comparison]) -> dict[str, float | int]:
    """Mean absolute error and bias, overall and by the number of classes, and the error without the estimate."""
    document: dict[str, float | int] = {f"{name}_classifiers": len(comparisons)}
    groups = {"": comparisons} | {
        f"_{ways}_way": [each for each in comparisons if len(each.labels) == ways] for ways in WAYS
    }
    for group, some in groups.items():
        differences = [each.promised - each.found for each in some]
        document[f"{name}{group}_mean_absolute_error"] = round(statistics.mean(map(abs, differences)), 4)
        document[f"{name}{group}_bias"] = round(statistics.mean(differences), 4)
    without = [abs(each.otherwise - each.found) for each in comparisons]
    return document | {f"{name}_mean_absolute_error_without": round(statistics.mean(without), 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--data", default="fashion-mnist", help="data set and bundle; NAME-images for pictures")
    parser.add_argument("--tasks", type=int, default=10, help="number of pairs and of triples")
    parser.add_argument("--runs", type=int, default=3, help="networks behind the confusions")
    options = parser.parse_args(arguments)
    tasks, name = (3, "digits") if options.quick else (options.tasks, options.data)
    began = time.monotonic()
    bundle = MemoryBundle.load(BUNDLES / f"{name}.safetensors")
    labels = compare_labels(bundle, load_dataset(name), tasks, options.runs, options.seed)
    document: dict[str, float | int | str] = dict(figures("labels", told(f"classifiers of labels, {name}", labels)))
    pictures = compare_pictures(
        BUNDLES / f"{options.data}-images.safetensors", load_dataset(options.data), tasks, options.seed
    )
    document |= figures("pictures", told(f"classifiers of {SHOTS} pictures of each class, {options.data}", pictures))
    print_figures(document | {"seconds": round(time.monotonic() - began, 1)})


if __name__ == "__main__":
    main()
