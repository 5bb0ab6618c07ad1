"""Memories of features at several sizes: accuracy of three kinds of learners, beside what else fits in the bytes.

    python -m benchmarks.features --encoder FILE.onnx [--data cifar10] [--images-per-class 10 1 0.1 0.01] [--quick]

A memory has as many numbers as so many pictures of each class, stored as int8. `memory` is that of the method `exact`:
its linear learner is the stored head, its MLP and kernel learn from the centres of the classes. Beside it: class means,
k-means, random real features, vectors of the closed form (Chen, Huang and Weng, 2024), and vectors trained through 30
steps of a head. Below one vector of each class, the first three are cut to the rank, to the number of vectors, or to
the features that fit, whichever is best on validation features (`small_baselines.py`). All is chosen or trained on
training features and selected on validation features; the test features are read once. The MLP's accuracy is the mean
of five. `linear_probe` learns from all training features. Accuracies in per cent. --quick: one MLP and 40 outer
steps. The last line is JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.command import add_encoder, command_parser, featuriser, print_figures
from benchmarks.feature_learners import Logits, Vectors, kernel, linear, mlp, right, trained
from benchmarks.small_baselines import SmallBaselines, int8
from recall_server.core.memory import DescribedClasses
from recall_server.core.memory.storage import fake_quantise
from recall_server.core.preprocessing import Standardise
from trainer.data.datasets import load_dataset
from trainer.data.features import Featuriser
from trainer.data.splits import Split
from trainer.starts.features.described_classes import best_exact
from trainer.starts.features.linear_head import softmax_head
from trainer.starts.features.representatives import clusters
from trainer.starts.features.trained_features import Labelled, Schedule, retraining, train_vectors

PICTURE = 32 * 32 * 3  # numbers of a picture of CIFAR
NOISE = 0.3  # of vectors that start at one mean, in units of the deviation of features
RIDGE = 1e-3  # of the closed form, relative to the mean variance of a feature
PROBE_RIDGE = 3e-3


class Data(NamedTuple):
    """Features of length sqrt(D)."""

    real: Labelled
    validation: Labelled
    test: Labelled
    classes: int
    width: int


def read(source: str, featuriser: Featuriser) -> Data:
    dataset = load_dataset(source, featuriser=featuriser)
    width = dataset.train.images.shape[1]

    def scaled(split: Split) -> Labelled:
        return Labelled(split.images.flatten(1) * width**0.5, split.labels)

    real, validation, test = map(scaled, (dataset.train, dataset.validation, dataset.test))
    return Data(real, validation, test, len(dataset.classes), width)


class Bench:
    """The figures of one data set."""

    def __init__(self, data: Data, networks: int, schedule: Schedule) -> None:
        self.data, self._networks, self._schedule = data, networks, schedule
        self.space = Standardise(torch.zeros(data.width), torch.ones(data.width))
        self.each = [data.real.features[data.real.labels == label].float() for label in range(data.classes)]
        self.means = torch.stack([some.mean(dim=0, keepdim=True) for some in self.each])  # [C, 1, D]

    def probe(self) -> float:
        """The accuracy of a head trained on all training features."""
        features, labels = self.data.real.features.float(), self.data.real.labels
        head = softmax_head(features, labels, self.data.classes, PROBE_RIDGE, bias=False)
        return round(100 * right(head.logits, self.data.test), 2)

    def at(self, numbers: int, generator: torch.Generator) -> dict[str, dict[str, float]]:
        """The figures of everything that fits in so many numbers."""
        figures = {"memory": self.memory(numbers)}
        rows = numbers // (self.data.classes * self.data.width)
        if not rows:
            small = SmallBaselines(self.data.real, self.data.validation, self.means).within(numbers, generator)
            return figures | {name: self.measure(vectors) for name, vectors in small._asdict().items()}
        drawn = [each[torch.randperm(len(each), generator=generator)[:rows]] for each in self.each]
        kinds = {
            "class_means": self.means,
            "k_means": torch.stack([clusters(each, rows).centres for each in self.each]),
            "random_real": torch.stack(drawn),
            "closed_form": self._closed_form(),
        }
        figures |= {name: self.measure(Vectors.of_classes(int8(vectors))) for name, vectors in kinds.items()}
        figures["trained"] = self._trained(min(rows, 24), generator)
        return figures

    def memory(self, numbers: int) -> dict[str, float]:
        """The figures of the method `exact`."""
        began = time.perf_counter()
        found = best_exact(self.data.real, self.data.validation, self.space, self.data.classes, numbers)
        seconds, memory = time.perf_counter() - began, fake_quantise(found.memory, "int8")
        queries = torch.eye(self.data.classes)
        head = Vectors.of_classes(memory.items(queries))
        learned_from = Vectors.of_classes(memory.typical(queries)) if isinstance(memory, DescribedClasses) else head
        figures = self.measure(learned_from, trained(head, found.retraining, 0))
        return figures | {"numbers": memory.stored_numbers(), "seconds": round(seconds, 1)}

    def measure(self, data: Vectors, learner: Logits | None = None) -> dict[str, float]:
        """Test accuracies in per cent; `learner` takes the place of the linear head."""
        found = {
            "linear": right(learner or linear(data, self.data.validation), self.data.test),
            "mlp": mlp(data, self._networks, self.data.test),
            "kernel": right(kernel(data, self.data.validation), self.data.test),
        }
        sys.stderr.write(f"{found}\n")
        return {name: round(100 * value, 2) for name, value in found.items()}

    def _closed_form(self) -> Tensor:
        """One vector of each class, of which ridge regression makes the weights that it makes of all features."""
        width, count = self.data.width, len(self.data.real.labels)
        products, moments = torch.zeros(width, width), torch.zeros(width, self.data.classes)
        for features, labels in zip(*(torch.split(part, 4096) for part in self.data.real), strict=True):
            products += features.float().T @ features.float() / count
            moments += features.float().T @ one_hot(labels, self.data.classes).float() / count
        weights = torch.linalg.solve(products + RIDGE * torch.eye(width) * products.diagonal().mean(), moments)
        vectors: Tensor = torch.linalg.pinv(weights)
        return vectors.unsqueeze(1)

    def _trained(self, rows: int, generator: torch.Generator) -> dict[str, float]:
        """Vectors trained in standardised features, as the method `features` does."""
        real = self.data.real.features
        space = Standardise.fit(real[:, :, None, None])

        def seen(data: Labelled) -> Labelled:
            chunks = [space.to_model(each.float()[:, :, None, None]) for each in torch.split(data.features, 4096)]
            return Labelled(torch.cat([each[:, :, 0, 0].half() for each in chunks]), data.labels)

        start = space.to_model(self.means[:, 0, :, None, None])[:, :, 0, 0].unsqueeze(1).repeat(1, rows, 1)
        start = start + (NOISE if rows > 1 else 0) * torch.randn(start.shape, generator=generator)
        best = train_vectors(
            start, seen(self.data.real), seen(self.data.validation), self._schedule, generator=generator
        )
        test, vectors = seen(self.data.test), Vectors.of_classes(int8(best.vectors))
        found = {
            "linear": right(trained(vectors, retraining(best, self._schedule), 0), test),
            "mlp": mlp(vectors, self._networks, test),
            "kernel": right(kernel(vectors, seen(self.data.validation)), test),
        }
        return {name: round(100 * value, 2) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    add_encoder(parser)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images-per-class", type=float, nargs="+", default=[1])
    parser.add_argument("--outer-steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    schedule = Schedule(outer_steps=40 if options.quick else options.outer_steps)
    data = read(options.data, featuriser(options))
    bench = Bench(data, 1 if options.quick else 5, schedule)
    document: dict[str, Any] = {"data": options.data, "size": options.size, "linear_probe": bench.probe(), "test": {}}
    for images in options.images_per_class:
        numbers = int(images * data.classes * PICTURE)
        document["test"][f"{images:g}"] = bench.at(numbers, torch.Generator().manual_seed(options.seed))
    print_figures(document)


if __name__ == "__main__":
    main()
