"""recall -> fresh networks -> accuracy with its spread, and baselines at the same number of stored floats.

One evaluation for every method; there is no branch on how a memory was made. Validation during a run and the test
set at the end go through the same functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MOST_CONFUSED, Confusions, MeasuredAccuracy
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import LazilyRecalled, LazyItems
from recall_server.core.networks import Parameters
from recall_server.core.preprocessing import AbstractPreprocessing, unprojected
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import Split
from trainer.evaluation.herding import herd

PAPER_EPOCHS, PAPER_BATCH, PAPER_RATE = 300, 640, 0.01


@dataclass(frozen=True)
class Accuracies:
    """Accuracies, 0 to 1, of independent fresh networks (or episodes).

    `confusions` [k][k], where they were counted: how often all of them said label j of a picture of label i.
    """

    values: tuple[float, ...]
    confusions: Confusions | None = None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the runs; 0 for a single one."""
        return float(torch.tensor(self.values, dtype=torch.float64).std()) if len(self.values) > 1 else 0.0

    @property
    def interval(self) -> float:
        """Half the width of the 95 % interval of the mean."""
        return 1.96 * self.spread / math.sqrt(len(self.values))

    def over(self, other: Accuracies) -> Accuracies:
        """The paired differences to others of the same tasks, in the same order."""
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
    """The schedule for networks that look at pictures as they are."""
    return retraining.model_copy(update={"network": retraining.network.shrinking(1)})


def paper_protocol(retraining: Retraining, *, queries: int, rows: int) -> Retraining:
    """300 epochs over everything recalled, batches of 640, SGD 0.01 with momentum 0.9, constant (appendix A.1)."""
    each = max(1, min(rows, PAPER_BATCH // queries))
    return retraining.model_copy(
        update={
            "steps": PAPER_EPOCHS * -(-rows // each),
            "learning_rate": PAPER_RATE,
            "momentum": 0.9,
            "rows_per_class": each,
            "decay": "constant",
        }
    )


def fresh_accuracy(
    images: Tensor | LazyItems,
    targets: Tensor,
    split: Split,
    *,
    labels: Sequence[str],
    preprocessing: AbstractPreprocessing,
    retraining: Retraining,
    seeds: Sequence[int],
    device: torch.device,
    pretrained: Parameters | None = None,
) -> Accuracies:
    """Train one fresh network for every seed on images [q, r, C, H, W], and score each on `split`.

    `targets` are [q, k], or [q, r or 1, k].
    """
    shape = split.images.shape[1], split.images.shape[2], split.images.shape[3]
    values, said = [], []
    for seed in seeds:
        classifier = FreshClassifier(labels, shape, preprocessing, retraining, seed=seed, device=device)
        classifier.fit(images, targets, pretrained=pretrained)
        guesses = guess(classifier, split)
        values.append(_share(guesses == split.labels))
        said.append(guesses)
    return Accuracies(tuple(values), confusions=confusions(said, split.labels, len(labels)))


def score(classifier: FreshClassifier, split: Split) -> float:
    """Share of the split's pictures that the classifier names rightly; its labels are in the order of its classes."""
    return _share(guess(classifier, split) == split.labels)


def guess(classifier: FreshClassifier, split: Split, batch: int = 500) -> Tensor:
    """The label [N] that the classifier gives to each picture, as a number. ValueError where there are no pictures."""
    if not len(split):
        raise ValueError("there are no pictures to score a classifier on")
    guesses = []
    for start in range(0, len(split), batch):
        part = split.select(torch.arange(start, min(start + batch, len(split))))
        guesses.append(classifier.predict_probabilities(part.pixels()).argmax(dim=1).cpu())
    return torch.cat(guesses)


def confusions(guesses: Sequence[Tensor], labels: Tensor, classes: int) -> Confusions | None:
    """The table [classes][classes] of all guesses [N] at pictures of these labels [N]; None where it would be large."""
    if classes > MOST_CONFUSED:
        return None
    pairs = torch.cat([labels * classes + each for each in guesses])
    counts = torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return tuple(map(tuple, counts.tolist()))


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def evaluate_labels(
    bundle: MemoryBundle, split: Split, *, retraining: Retraining, seeds: Sequence[int], device: torch.device
) -> Accuracies:
    """All classes of a label-addressed bundle."""
    labels = bundle.manifest.labels
    queries = bundle.label_queries(labels)
    recalled = bundle.memory.recall_lazily(queries)
    if bundle.manifest.space == "features":  # networks see features as channels of one pixel
        items, targets = bundle.memory.recall(queries)
        recalled = LazilyRecalled(items.reshape(*items.shape[:2], *bundle.manifest.network_shape), targets)
    return fresh_accuracy(
        *recalled,
        split,
        labels=labels,
        preprocessing=bundle.preprocessing,
        retraining=retraining,
        seeds=seeds,
        device=device,
    )


def evaluate_real(
    bundle: MemoryBundle,
    train: Split,
    test: Split,
    *,
    retraining: Retraining,
    seeds: Sequence[int],
    device: torch.device,
) -> Accuracies:
    """The baseline: random real images, as many as the same number of stored floats holds, trained by `retraining`.

    Every seed draws images of its own.
    """
    values: list[float] = []
    for seed in seeds:
        images = _real_images(train, len(bundle.labels), real_rows(bundle), torch.Generator().manual_seed(seed))
        values += evaluate_pictures(bundle, images, test, retraining=retraining, seeds=[seed], device=device).values
    return Accuracies(tuple(values))


def evaluate_herded(
    bundle: MemoryBundle,
    train: Split,
    test: Split,
    *,
    retraining: Retraining,
    seeds: Sequence[int],
    device: torch.device,
) -> Accuracies:
    """The baseline: as many real images, chosen by herding."""
    images = herd(train, unprojected(bundle.preprocessing), classes=len(bundle.labels), each=real_rows(bundle))
    return evaluate_pictures(bundle, images, test, retraining=retraining, seeds=seeds, device=device)


def evaluate_pictures(
    bundle: MemoryBundle,
    images: Tensor,
    test: Split,
    *,
    retraining: Retraining,
    seeds: Sequence[int],
    device: torch.device,
) -> Accuracies:
    """Fresh networks trained on pictures [k, n, C, H, W] in pixel space, n of each of the bundle's classes.

    They see pictures as they are, and neither as the memory's bases could have recalled them nor shrunk.
    """
    preprocessing, retraining = unprojected(bundle.preprocessing), at_full_size(retraining)
    return fresh_accuracy(
        preprocessing.to_model(images.flatten(0, 1)).reshape(images.shape),
        torch.eye(len(bundle.labels)),
        test,
        labels=bundle.labels,
        preprocessing=preprocessing,
        retraining=retraining,
        seeds=seeds,
        device=device,
    )


def real_rows(bundle: MemoryBundle) -> int:
    """How many real images of each class are as many numbers as the bundle's budget allows."""
    return max(1, int(bundle.manifest.budget.images_per_class))


def _real_images(train: Split, classes: int, each: int, generator: torch.Generator) -> Tensor:
    """Random training pictures [classes, n, C, H, W] in pixel space; n is `each`, or as many as every class has."""
    members = [torch.nonzero(train.labels == label).flatten() for label in range(classes)]
    count = min(each, *map(len, members))
    chosen = [index[torch.randperm(len(index), generator=generator)[:count]] for index in members]
    return torch.stack([train.select(index).pixels() for index in chosen])
