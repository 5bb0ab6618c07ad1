"""The accuracy of fresh networks that are trained on recalled images, and baselines with as many stored floats.

The evaluation is the same for every method, and for validation during a run as for the test set at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MOST_CONFUSED, Confusions, MeasuredAccuracy
from recall_server.core.classifier.expected_accuracy import wilson_interval
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import LazyItems
from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.preprocessing import AbstractPreprocessing, unprojected
from recall_server.core.training.retraining import USUAL_RATES, Retraining
from trainer.data.datasets import Split
from trainer.data.progress_line import Countdown
from trainer.evaluation.herding import herd

PAPER_EPOCHS, PAPER_BATCH, PAPER_RATE = 300, 640, 0.01
MOST_PICTURES = 8_192  # that `evaluate_all` trains on
ENOUGH_STEPS = 300  # of its training; what a memory needs is less

Build = Callable[[tuple[int, int, int], int], AbstractNetwork]
Predict = Callable[[FreshClassifier, Split], Tensor]  # the number [N] of the label predicted for each picture


def predict(classifier: FreshClassifier, split: Split, batch: int = 500) -> Tensor:
    """The number [N] of the label predicted for each picture. Raises ValueError for an empty split."""
    if not len(split):
        raise ValueError("there are no pictures to score a classifier on")
    parts = split.chunks(batch)
    return torch.cat([classifier.predict_probabilities(part.pixels()).argmax(dim=1).cpu() for part in parts])


@dataclass(frozen=True)
class Runs:
    """Independent trainings of fresh networks: one for each of `seeds`.

    Accuracies are those of `predictions`, by default of the pictures as they are. `network` builds a network for images
    (channels, height, width) and a number of classes in place of that of the schedule.
    """

    retraining: Retraining
    seeds: Sequence[int]
    device: torch.device
    predictions: Predict = predict
    network: Build | None = None


@dataclass(frozen=True)
class Accuracies:
    """Accuracies, 0 to 1, of independent fresh networks (or episodes).

    `confusions` [k][k], if counted: how often the networks predicted label j for pictures of label i.
    """

    values: tuple[float, ...]
    confusions: Confusions | None = None

    @classmethod
    def of_all(cls, parts: Sequence[Accuracies]) -> Self:
        """Those of all parts together, in this order."""
        values = tuple(value for part in parts for value in part.values)
        counts = [part.confusions for part in parts if part.confusions is not None]
        if len(counts) < len(parts):
            return cls(values)
        return cls(values, tuple(map(tuple, torch.tensor(counts).sum(dim=0).tolist())))

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the runs; 0 for a single one."""
        return float(torch.tensor(self.values, dtype=torch.float64).std()) if len(self.values) > 1 else 0.0

    @property
    def interval(self) -> float:
        """Half the width of the 95 % confidence interval of the mean."""
        return 1.96 * self.spread / math.sqrt(len(self.values))

    def over(self, other: Accuracies) -> Accuracies:
        """The paired differences to the accuracies of the same tasks, in the same order."""
        return Accuracies(tuple(own - another for own, another in zip(self.values, other.values, strict=True)))

    def row(self, *, network: str, protocol: str, data: str) -> MeasuredAccuracy:
        return MeasuredAccuracy(
            network=network,
            protocol=protocol,
            runs=len(self.values),
            mean=self.mean,
            spread=self.spread,
            data=data,
            confusions=self.confusions,
        )


def at_full_size(retraining: Retraining) -> Retraining:
    """The schedule with a network that does not shrink its input."""
    return retraining.model_copy(update={"network": retraining.network.shrinking(1)})


def paper_protocol(retraining: Retraining, *, queries: int, rows: int) -> Retraining:
    """The paper's protocol (appendix A.1): 300 epochs over all recalled images in batches of 640.

    SGD has a constant rate of 0.01 (USUAL_RATES) and momentum 0.9.
    """
    each = max(1, min(rows, PAPER_BATCH // queries))
    return retraining.model_copy(
        update={
            "steps": PAPER_EPOCHS * -(-rows // each),
            "learning_rate": USUAL_RATES[retraining.loss],
            "momentum": 0.9,
            "weight_decay": 0.0,
            "rows_per_class": each,
            "decay": "constant",
            "order": "random",
            "rates": (),
        }
    )


def fresh_accuracy(
    images: Tensor | LazyItems,
    targets: Tensor,
    split: Split,
    runs: Runs,
    *,
    labels: Sequence[str],
    preprocessing: AbstractPreprocessing,
    pretrained: Parameters | None = None,
) -> Accuracies:
    """Train fresh networks on images [q, r, C, H, W] with targets [q, k] or [q, r or 1, k]; score each on `split`."""
    shape = split.images.shape[1], split.images.shape[2], split.images.shape[3]
    values, found = [], []
    for seed in runs.seeds:
        classifier = FreshClassifier(labels, shape, preprocessing, runs.retraining, seed=seed, device=runs.device)
        if runs.network is not None:
            classifier.network = runs.network(shape, len(labels))
        classifier.fit(images, targets, pretrained=pretrained)
        found.append(runs.predictions(classifier, split))
        values.append(_share(found[-1] == split.labels))
    return Accuracies(tuple(values), confusions=confusions(found, split.labels, len(labels)))


def score(classifier: FreshClassifier, split: Split) -> float:
    """The classifier's accuracy on the split, whose labels must be numbered in the order of the classifier's."""
    return _share(predict(classifier, split) == split.labels)


def confusions(predictions: Sequence[Tensor], labels: Tensor, classes: int) -> Confusions | None:
    """The confusion matrix [classes][classes], summed over predictions [N] for these labels [N].

    Returns None for more than MOST_CONFUSED classes.
    """
    if classes > MOST_CONFUSED:
        return None
    pairs = torch.cat([labels * classes + each for each in predictions])
    counts = torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def evaluate_labels(bundle: MemoryBundle, split: Split, runs: Runs) -> Accuracies:
    """The accuracy on all classes of a bundle that is addressed by labels."""
    return fresh_accuracy(
        *bundle.recall_lazily(bundle.label_queries(bundle.labels)),
        split,
        runs,
        labels=bundle.labels,
        preprocessing=bundle.preprocessing,
    )


def evaluate_real(bundle: MemoryBundle, train: Split, test: Split, runs: Runs) -> Accuracies:
    """Baseline: training on random real images with the same number of stored floats.

    Every seed draws other images.
    """
    values: list[float] = []
    for seed in runs.seeds:
        images = _real_images(train, len(bundle.labels), real_rows(bundle), torch.Generator().manual_seed(seed))
        values += evaluate_pictures(bundle, images, test, replace(runs, seeds=[seed])).values
    return Accuracies(tuple(values))


def herded(bundle: MemoryBundle, train: Split) -> Tensor:
    """Baseline: as many real images [k, n, C, H, W], in pixel space, chosen by herding."""
    return herd(train, unprojected(bundle.preprocessing), classes=len(bundle.labels), each=real_rows(bundle))


def evaluate_pictures(bundle: MemoryBundle, images: Tensor, test: Split, runs: Runs) -> Accuracies:
    """The accuracy of fresh networks trained on pictures [k, n, C, H, W] in pixel space, n per class of the bundle.

    The pictures are neither projected onto the memory's bases nor shrunk.
    """
    preprocessing = unprojected(bundle.preprocessing)
    return fresh_accuracy(
        preprocessing.to_model(images.flatten(0, 1)).reshape(images.shape),
        torch.eye(len(bundle.labels)),
        test,
        replace(runs, retraining=at_full_size(runs.retraining)),
        labels=bundle.labels,
        preprocessing=preprocessing,
    )


Way = tuple[Callable[[Runs], Accuracies], Runs]  # how networks are trained and measured
Piece = tuple[str, int]  # the name of a way, and a seed
Compute = Callable[[Callable[[Piece], Accuracies], Sequence[Piece]], Iterable[tuple[Piece, Accuracies]]]


def compared(ways: Mapping[str, Way], compute: Compute) -> dict[str, Accuracies]:
    """The accuracies of each way. `compute` measures each seed by itself, in any order, here or elsewhere."""
    pieces = [(name, seed) for name, (_, runs) in ways.items() for seed in runs.seeds]
    progress, found = Countdown("network", len(pieces)), dict[Piece, Accuracies]()
    for piece, accuracies in compute(partial(_measured, ways), pieces):
        found[piece] = accuracies
        progress()
    return {name: Accuracies.of_all([found[name, seed] for seed in runs.seeds]) for name, (_, runs) in ways.items()}


def _measured(ways: Mapping[str, Way], piece: Piece) -> Accuracies:
    name, seed = piece
    measure, runs = ways[name]
    return measure(replace(runs, seeds=[seed]))


class Everything(NamedTuple):
    """The accuracy of a network that was trained on so many pictures."""

    pictures: int
    accuracies: Accuracies


def evaluate_all(bundle: MemoryBundle, train: Split, test: Split, runs: Runs) -> Everything:
    """What one could do without a memory: networks that are trained on all pictures by the same schedule.

    All classes count the same. Training takes ENOUGH_STEPS where the schedule has fewer. Of more than MOST_PICTURES
    pictures, a random selection is used, drawn by the first seed.
    """
    generator, classes = torch.Generator().manual_seed(runs.seeds[0]), len(bundle.labels)
    members = [torch.nonzero(train.labels == label).flatten() for label in range(classes)]
    each = min(max(map(len, members)), max(1, MOST_PICTURES // classes))
    shuffled = [index[torch.randperm(len(index), generator=generator)] for index in members]
    images = torch.stack([train.select(index[torch.arange(each) % len(index)]).pixels() for index in shuffled])
    preprocessing, steps = unprojected(bundle.preprocessing), max(runs.retraining.steps, ENOUGH_STEPS)
    accuracies = fresh_accuracy(
        preprocessing.to_model(images.flatten(0, 1)).reshape(images.shape),
        torch.eye(classes),
        test,
        replace(runs, retraining=runs.retraining.model_copy(update={"steps": steps})),
        labels=bundle.labels,
        preprocessing=preprocessing,
    )
    return Everything(sum(min(len(index), each) for index in members), accuracies)


def interval_of(accuracy: float, pictures: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy on so many pictures."""
    return wilson_interval(round(accuracy * pictures), pictures)


def real_rows(bundle: MemoryBundle) -> int:
    """How many real images per class fit the bundle's budget of numbers."""
    return max(1, int(bundle.manifest.budget.images_per_class))


def _real_images(train: Split, classes: int, each: int, generator: torch.Generator) -> Tensor:
    """Random training pictures [classes, n, C, H, W] in pixel space; n is `each`, or the size of the smallest class."""
    members = [torch.nonzero(train.labels == label).flatten() for label in range(classes)]
    count = min(each, *map(len, members))
    chosen = [index[torch.randperm(len(index), generator=generator)[:count]] for index in members]
    return torch.stack([train.select(index).pixels() for index in chosen])
