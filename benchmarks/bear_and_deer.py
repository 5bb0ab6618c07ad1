"""A classifier of two names from two memories, requested over HTTP and scored on real test pictures.

    python -m benchmarks.bear_and_deer [--labels cifar100:bear,cifar10:deer] [--runs 5] [--quick]

Each label is preceded by the data set and its memory of pixels. A real server with the bundles in artifacts/ answers
`GET /recall` with the bare names, and trains one classifier of the qualified names per run, each with its own seed.
Every classifier predicts the first 100 test pictures of each class, over HTTP as well. Two baselines train the same
network by the same schedule on random real pictures: as many per class as the larger of the memories' budgets, and all
of them. The seconds are from the request to a usable classifier. Where every data set has a memory of features as well,
named DATASET-features, the same is measured of these, with a line and figures of its own: their encoder has seen other
pictures. There the baselines are softmax regression on real features. --quick: two of scikit-learn's digits, which one
memory has, and one run. The last line is JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import torch
from torch import Tensor

from benchmarks.across_features import probe
from benchmarks.command import CPU, command_parser, print_figures
from benchmarks.quality import relabelled
from benchmarks.running_server import ARTIFACTS, RunningServer, running_server
from recall_client import RecallClient
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.recall.training_set import shared_format
from trainer.data.datasets import Split, load_dataset
from trainer.data.features import Featuriser, cache_folder
from trainer.evaluation.evaluate import Runs, fresh_accuracy, real_rows

BUNDLES = ARTIFACTS / "bundles"
TESTS = 100  # pictures of each class
PATIENCE = 600.0


@dataclass(frozen=True)
class Task:
    """Labels, their memories, and real data in the memories' space: `train` by class, `test` labelled by class.

    `pictures` [N, C, H, W] are those of `test`.
    """

    labels: tuple[str, ...]
    bundles: tuple[MemoryBundle, ...]
    train: tuple[Split, ...]
    test: Split
    pictures: Tensor

    @classmethod
    def of(cls, qualified: Sequence[str]) -> Task:
        """The task of labels of the form `dataset:label`, with the memories that are named after the data sets."""
        names, labels = zip(*(each.split(":") for each in qualified), strict=True)
        datasets = {name: load_dataset(name) for name in names}
        chosen = [
            (datasets[name], [datasets[name].classes.index(label)]) for name, label in zip(names, labels, strict=True)
        ]
        images = [relabelled(dataset.test, number).images[:TESTS] for dataset, number in chosen]
        numbers = torch.arange(len(images)).repeat_interleave(torch.tensor([len(each) for each in images]))
        return cls(
            labels,
            tuple(MemoryBundle.load(BUNDLES / f"{name}.safetensors") for name in names),
            tuple(relabelled(dataset.train, number) for dataset, number in chosen),
            Split(torch.cat(images), numbers),
            torch.cat(images),
        )

    def in_features(self) -> Task | None:
        """The same labels of the memories of features; None where a data set has no such memory."""
        paths = [BUNDLES / f"{bundle.manifest.name}-features.safetensors" for bundle in self.bundles]
        if not all(path.exists() for path in paths):
            return None
        bundles = tuple(map(MemoryBundle.load, paths))
        reference = bundles[0].manifest.feature_encoder
        assert reference is not None
        file = ARTIFACTS / "encoders" / reference.file
        encoder = QueryEncoder(file, reference.sha256, image_shape=bundles[0].manifest.image.shape)
        features = Featuriser(encoder, cache=cache_folder())
        train, test = (
            [replace(each, images=features(each.images)) for each in real] for real in (self.train, [self.test])
        )
        return replace(self, bundles=bundles, train=tuple(train), test=test[0])

    @property
    def qualified(self) -> list[str]:
        """The labels as a server takes them, with the names of the bundles."""
        return [f"{bundle.manifest.name}:{label}" for bundle, label in zip(self.bundles, self.labels, strict=True)]

    @property
    def space(self) -> str:
        """pixels or features."""
        return self.bundles[0].manifest.space

    @property
    def retraining(self) -> Retraining:
        """The schedule with which the server trains classifiers of these labels."""
        return shared_format(self.bundles).retraining


def real_accuracy(task: Task, count: int, seed: int) -> float:
    """Accuracy after training on `count` random training pictures per class (fewer if a class has fewer).

    What is trained is a network of pixels, or softmax regression on features.
    """
    count = min(count, *map(len, task.train))
    generator = torch.Generator().manual_seed(seed)
    drawn = [split.select(torch.randperm(len(split), generator=generator)[:count]).pixels() for split in task.train]
    if task.space == "features":
        head = probe([each.flatten(1) for each in drawn])
        return float((head.logits(task.test.pixels().flatten(1)).argmax(dim=1) == task.test.labels).float().mean())
    pixels = torch.stack(drawn)  # [k, count, C, H, W]
    preprocessing = Standardise.fit(pixels.flatten(0, 1))
    return fresh_accuracy(
        preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels),
        torch.eye(len(task.labels)),
        task.test,
        Runs(task.retraining, [seed], CPU),
        labels=task.labels,
        preprocessing=preprocessing,
    ).mean


def served_accuracy(client: RecallClient, task: Task, seed: int) -> tuple[float, float]:
    """Accuracy of a classifier that the server trains, and the seconds until it is usable."""
    started = time.perf_counter()
    classifier = client.train(task.qualified, seed=seed).wait()
    seconds = time.perf_counter() - started
    predictions = classifier.predict(task.pictures.permute(0, 2, 3, 1).numpy())
    wanted = [classifier.labels[number] for number in task.test.labels.tolist()]
    right = [given.label == label for given, label in zip(predictions, wanted, strict=True)]
    return statistics.mean(right), seconds


def recall_status(server: RunningServer, labels: Sequence[str]) -> int:
    """The status of `GET /recall` with only the names."""
    return httpx2.get(f"{server.url}/recall", params={"labels": ",".join(labels)}, timeout=PATIENCE).status_code


def measure(client: RecallClient, task: Task, runs: int) -> dict[str, Any]:
    """Means over the runs; every baseline has as many networks as the server trains."""
    seconds: list[float] = []
    accuracies: dict[str, list[float]] = {"accuracy": [], "accuracy_random_real": [], "accuracy_all_real": []}
    budget, everything = max(map(real_rows, task.bundles)), max(map(len, task.train))
    for seed in range(runs):
        accuracy, taken = served_accuracy(client, task, seed)
        accuracies["accuracy"].append(accuracy)
        accuracies["accuracy_random_real"].append(real_accuracy(task, budget, seed))
        accuracies["accuracy_all_real"].append(real_accuracy(task, everything, seed))
        seconds.append(taken)
        shares = ", ".join(f"{name} {100 * values[-1]:.1f} %" for name, values in accuracies.items())
        print(f"{task.space}, seed {seed}: {shares}; {taken:.1f} s", flush=True)
    return {
        **{name: round(statistics.mean(values), 4) for name, values in accuracies.items()},
        "accuracy_spread": round(statistics.stdev(accuracies["accuracy"]), 4) if runs > 1 else 0.0,
        "seconds": round(statistics.mean(seconds), 2),
        "bundles": sorted({bundle.manifest.name for bundle in task.bundles}),
        "real_pictures_per_class": budget,
        "test_pictures": len(task.test),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--labels", default="cifar100:bear,cifar10:deer", help="comma-separated DATASET:LABEL")
    parser.add_argument("--runs", type=int, default=5, help="classifiers, each with its own seed")
    options = parser.parse_args(arguments)
    if options.quick:
        options.labels, options.runs = "digits:3,digits:8", 1
    task = Task.of(options.labels.split(","))
    features = task.in_features()
    with running_server("--device=cpu") as server, RecallClient(server.url, timeout=PATIENCE) as client:
        document = {
            "labels": list(task.labels),
            "runs": options.runs,
            "recall_status": recall_status(server, task.labels),
        }
        document |= measure(client, task, options.runs)
        if features:
            document["in_features"] = measure(client, features, options.runs)
    print_figures(document)


if __name__ == "__main__":
    main()
