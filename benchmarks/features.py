"""Memories of features beside the stored head: accuracy of linear, MLP and kernel learners at the same numbers.

    python -m benchmarks.features --encoder FILE.onnx [--data cifar10] [--images-per-class 1] [--quick]

Vectors are chosen or trained on training features and selected on validation features; the test features are read once.
`exact` is the stored linear head, as a memory. A memory has as many vectors per class as the numbers of so many images
allow. The linear learner of `trained` and `exact` is trained by the schedule of the memory, others by softmax
regression with the best of three ridges; the kernel learner is ridge regression on a Gaussian kernel; the MLP has one
hidden layer, and its accuracy is the mean of five. Accuracies in per cent. --quick: 40 outer steps, one MLP. The last
line is JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.command import add_encoder, command_parser, featuriser, print_figures
from benchmarks.few_shot_features import IMAGE_NUMBERS, flat
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.one_step import one_step
from recall_server.core.memory import StoredItems
from recall_server.core.memory.storage import fake_quantise
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import load_dataset
from trainer.data.features import Featuriser
from trainer.data.splits import Split
from trainer.starts.linear_head import softmax_head
from trainer.starts.real.selection import at_random, herding
from trainer.starts.representatives import clusters, medoids
from trainer.starts.trained_features import Labelled, Schedule, retraining, train_vectors

RIDGES = (0.003, 0.03, 0.3)
NOISE = 0.3  # of vectors that start at one mean
MLP = Retraining(
    network=NetworkSpec(architecture="mlp", hidden=256, depth=1), steps=300, learning_rate=0.01, rows_per_class=10
)

Logits = Callable[[Tensor], Tensor]


def right(logits: Logits, data: Labelled) -> float:
    parts = zip(torch.split(data.features, 2048), torch.split(data.labels, 2048), strict=True)
    return sum(float((logits(some.float()).argmax(dim=1) == labels).sum()) for some, labels in parts) / len(data.labels)


def linear(vectors: Tensor, validation: Labelled) -> Logits:
    """Softmax regression on [k, r, D], with the ridge that is best on validation features."""
    classes, rows, _ = vectors.shape
    labels = torch.arange(classes).repeat_interleave(rows)
    heads = [softmax_head(vectors.flatten(0, 1), labels, classes, ridge) for ridge in RIDGES]
    return max(heads, key=lambda head: right(head.logits, validation)).logits


def kernel(vectors: Tensor, validation: Labelled) -> Logits:
    """Ridge regression on a Gaussian kernel, with the width and the ridge that are best on validation features."""
    classes, rows, width = vectors.shape
    flat, targets = vectors.flatten(0, 1), one_hot(torch.arange(classes).repeat_interleave(rows)).float() - 1 / classes

    def fitted(scale: float, ridge: float) -> Logits:
        products = (-torch.cdist(flat, flat).square() / (scale * width)).exp()
        weights = torch.linalg.solve(products + ridge * torch.eye(len(flat)), targets)
        return lambda features: (-torch.cdist(features, flat).square() / (scale * width)).exp() @ weights

    some = Labelled(validation.features[::4], validation.labels[::4])
    choices = [fitted(scale, ridge) for scale in (2.0, 10.0, 50.0) for ridge in (1e-3, 1e-1)]
    return max(choices, key=lambda logits: right(logits, some))


def served(vectors: Tensor, schedule: Retraining, seed: int) -> Logits:
    """The classifier that a server trains from [k, r, D]; features are standardised already."""
    classes, _, width = vectors.shape
    identity = Standardise(torch.zeros(width), torch.ones(width))
    made = FreshClassifier([str(each) for each in range(classes)], (width, 1, 1), identity, schedule, seed=seed)
    made.fit(vectors[..., None, None], torch.eye(classes))
    return lambda features: made.predict_probabilities(features[:, :, None, None])


def int8(vectors: Tensor) -> Tensor:
    return fake_quantise(StoredItems(vectors), "int8").stored


def untrained(real: Labelled, classes: int, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Vectors [k, r, D] of each kind."""
    each = [real.features[real.labels == label].float() for label in range(classes)]
    centres = torch.stack([clusters(some, rows).centres for some in each])
    return {
        "class_means": torch.stack([some.mean(dim=0, keepdim=True) for some in each]),
        "k_means": centres,
        "medoids": torch.stack([medoids(some, few) for some, few in zip(each, centres, strict=True)]),
        "herding": torch.stack([some[herding(some, rows)] for some in each]),
        "random_real": torch.stack([some[at_random(some, rows, generator)] for some in each]),
    }


class Bench:
    """Standardised features of a data set, and the figures so far."""

    def __init__(self, source: str, featuriser: Featuriser, mlps: int) -> None:
        dataset = load_dataset(source, featuriser=featuriser)
        training = flat(dataset.train.images)
        mean, deviation = training.mean(dim=0), training.std(dim=0) + 1e-4 * training.std()

        def standardised(split: Split) -> Labelled:
            return Labelled(((flat(split.images) - mean) / deviation).half(), split.labels)

        self.classes, self.width, self._mlps = len(dataset.classes), len(mean), mlps
        self.real, self.validation = standardised(dataset.train), standardised(dataset.validation)
        self._test = standardised(dataset.test)
        self.figures: dict[str, dict[str, float]] = {}

    def measure(self, name: str, vectors: Tensor, learner: Logits | None = None) -> None:
        mlps = [right(served(vectors, MLP, seed), self._test) for seed in range(self._mlps)]
        found = {
            "linear": right(learner or linear(vectors, self.validation), self._test),
            "mlp": sum(mlps) / len(mlps),
            "kernel": right(kernel(vectors, self.validation), self._test),
        }
        self.figures[name] = {key: round(100 * value, 2) for key, value in found.items()}
        self.figures[name]["numbers"] = vectors.numel()
        sys.stderr.write(f"{name}: {self.figures[name]}\n")

    def stored_head(self) -> dict[str, float]:
        """Measures the linear head as a memory; returns the probe that it is, trained on all features."""
        began = time.perf_counter()
        head = softmax_head(self.real.features.float(), self.real.labels, self.classes, 0.01, steps=50)
        seconds = time.perf_counter() - began
        step = one_step(head, Standardise(torch.zeros(self.width), torch.ones(self.width)))
        stored, moved, schedule = step.vectors.unsqueeze(1), step.preprocessing, step.retraining
        for name, vectors in (("exact", stored), ("exact_int8", int8(stored))):
            logits = served(vectors, schedule, 0)
            self.measure(name, vectors, lambda features, logits=logits: logits(features - moved.mean))  # type: ignore[misc]
        return {"linear": round(100 * right(head.logits, self._test), 2), "seconds": round(seconds, 1)}

    def trained(self, start: Tensor, schedule: Schedule, generator: torch.Generator) -> dict[str, float]:
        began, busy = time.perf_counter(), time.process_time()
        best = train_vectors(start, self.real, self.validation, schedule, generator=generator)
        found = {
            "seconds": round(time.perf_counter() - began, 1),
            "processor_seconds": round(time.process_time() - busy, 1),
            "validation": round(100 * best.accuracy, 2),
        }
        for name, vectors in (("trained", best.vectors), ("trained_int8", int8(best.vectors))):
            self.measure(name, vectors, served(vectors, retraining(best, schedule), 0))
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "seed", "quick")
    add_encoder(parser)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images-per-class", type=float, default=1)
    parser.add_argument("--outer-steps", type=int, default=1200)
    options = parser.parse_args(arguments)
    bench = Bench(options.data, featuriser(options), 1 if options.quick else 5)
    generator = torch.Generator().manual_seed(options.seed)
    rows = max(1, int(options.images_per_class * IMAGE_NUMBERS // bench.width))
    probe = bench.stored_head()
    kinds = untrained(bench.real, bench.classes, rows, generator)
    for name, vectors in kinds.items():
        bench.measure(name, vectors)
    start = kinds["class_means"].repeat(1, rows, 1)
    start = start + (NOISE if rows > 1 else 0) * torch.randn(start.shape, generator=generator)
    schedule = Schedule(outer_steps=40 if options.quick else options.outer_steps)
    training = bench.trained(start, schedule, generator)
    document = {"data": options.data, "images_per_class": options.images_per_class, "vectors_per_class": rows}
    document |= {"linear_probe": probe, "training": training, "test": bench.figures}
    print_figures(document)


if __name__ == "__main__":
    main()
