"""A classifier of two names from two memories, requested over HTTP and scored on real test pictures.

    python -m benchmarks.bear_and_deer [--labels cifar100:bear,cifar10:deer] [--runs 5] [--quick]

Each label is preceded by the data set that its memory was made from. A real server with the bundles in artifacts/ gets
only the names: `GET /recall?labels=bear,deer`, then one `POST /classifier` per run, each with its own seed. Every
classifier predicts the first 100 test pictures of each class, over HTTP as well. Two baselines train the same network
by the same schedule on random real pictures: as many per class as the larger of the memories' budgets, and all of them.
The seconds are from the request to a usable classifier. --quick: two of scikit-learn's digits, which one memory has,
and one run. The last line is JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
import torch

from benchmarks.command import CPU, command_parser, print_figures
from benchmarks.quality import relabelled
from benchmarks.running_server import ARTIFACTS, RunningServer, running_server
from recall_client import RecallClient
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.recall.training_set import shared_format
from trainer.data.datasets import Split, load_dataset
from trainer.evaluation.evaluate import fresh_accuracy, real_rows

TESTS = 100  # pictures of each class
PATIENCE = 600.0


@dataclass(frozen=True)
class Task:
    """Labels, their memories, and real pictures: `train` by class, `test` labelled by class."""

    labels: tuple[str, ...]
    bundles: tuple[MemoryBundle, ...]
    train: tuple[Split, ...]
    test: Split

    @classmethod
    def of(cls, qualified: Sequence[str]) -> Task:
        """The task of labels of the form `dataset:label`; a data set's memory has the same name."""
        names, labels = zip(*(each.split(":") for each in qualified), strict=True)
        datasets = {name: load_dataset(name) for name in names}
        bundles = {name: MemoryBundle.load(ARTIFACTS / "bundles" / f"{name}.safetensors") for name in datasets}
        chosen = [datasets[name].classes.index(label) for name, label in zip(names, labels, strict=True)]
        train = [relabelled(datasets[name].train, [number]) for name, number in zip(names, chosen, strict=True)]
        tests = [relabelled(datasets[name].test, [number]) for name, number in zip(names, chosen, strict=True)]
        images = [split.images[:TESTS] for split in tests]
        numbers = torch.arange(len(images)).repeat_interleave(torch.tensor([len(each) for each in images]))
        return cls(labels, tuple(bundles[name] for name in names), tuple(train), Split(torch.cat(images), numbers))

    @property
    def retraining(self) -> Retraining:
        """The schedule with which the server trains classifiers of these labels."""
        return shared_format(self.bundles).retraining


def real_accuracy(task: Task, count: int, seed: int) -> float:
    """Accuracy of a network trained on `count` random training pictures per class (fewer if a class has fewer)."""
    count = min(count, *map(len, task.train))
    generator = torch.Generator().manual_seed(seed)
    drawn = [split.select(torch.randperm(len(split), generator=generator)[:count]).pixels() for split in task.train]
    pixels = torch.stack(drawn)  # [k, count, C, H, W]
    preprocessing = Standardise.fit(pixels.flatten(0, 1))
    return fresh_accuracy(
        preprocessing.to_model(pixels.flatten(0, 1)).view_as(pixels),
        torch.eye(len(task.labels)),
        task.test,
        labels=task.labels,
        preprocessing=preprocessing,
        retraining=task.retraining,
        seeds=[seed],
        device=CPU,
    ).mean


def served_accuracy(client: RecallClient, task: Task, seed: int) -> tuple[float, float]:
    """Accuracy of a classifier that the server trains, and the seconds until it is usable."""
    started = time.perf_counter()
    classifier = client.train(task.labels, seed=seed).wait()
    seconds = time.perf_counter() - started
    predictions = classifier.predict(task.test.images.permute(0, 2, 3, 1).numpy())
    wanted = [task.labels[number] for number in task.test.labels.tolist()]
    right = [given.label == label for given, label in zip(predictions, wanted, strict=True)]
    return statistics.mean(right), seconds


def recall_status(server: RunningServer, labels: Sequence[str]) -> int:
    """The status of `GET /recall` with only the names."""
    return httpx2.get(f"{server.url}/recall", params={"labels": ",".join(labels)}, timeout=PATIENCE).status_code


def measure(task: Task, runs: int) -> dict[str, float | int]:
    """Means over the runs; every baseline has as many networks as the server trains."""
    seconds: list[float] = []
    accuracies: dict[str, list[float]] = {"accuracy": [], "accuracy_random_real": [], "accuracy_all_real": []}
    budget, everything = max(map(real_rows, task.bundles)), max(map(len, task.train))
    with running_server("--device=cpu") as server, RecallClient(server.url, timeout=PATIENCE) as client:
        status = recall_status(server, task.labels)
        for seed in range(runs):
            accuracy, taken = served_accuracy(client, task, seed)
            accuracies["accuracy"].append(accuracy)
            accuracies["accuracy_random_real"].append(real_accuracy(task, budget, seed))
            accuracies["accuracy_all_real"].append(real_accuracy(task, everything, seed))
            seconds.append(taken)
            shares = ", ".join(f"{name} {100 * values[-1]:.1f} %" for name, values in accuracies.items())
            print(f"seed {seed}: {shares}; {taken:.1f} s", flush=True)
    return {
        "recall_status": status,
        **{name: round(statistics.mean(values), 4) for name, values in accuracies.items()},
        "accuracy_spread": round(statistics.stdev(accuracies["accuracy"]), 4) if runs > 1 else 0.0,
        "seconds": round(statistics.mean(seconds), 2),
        "real_pictures_per_class": budget,
        "test_pictures": len(task.test),
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--labels", default="cifar100:bear,cifar10:deer", help="comma-separated DATASET:LABEL")
    parser.add_argument("--runs", type=int, default=5, help="classifiers, each with its own seed")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if options.quick:
        options.labels, options.runs = "digits:3,digits:8", 1
    task = Task.of(options.labels.split(","))
    names = {bundle.manifest.name for bundle in task.bundles}
    print_figures(measure(task, options.runs) | {"labels": list(task.labels), "bundles": sorted(names)})


if __name__ == "__main__":
    main()
