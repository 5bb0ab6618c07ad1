"""How good a classifier is likely to be, before anybody has tested it: an estimate, and what it was made from.

Two sources, never both: what was measured of the memory when it was evaluated, for a classifier of labels, and the
pictures that were sent themselves, for a classifier of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recall_server.core.bundle.manifest import Confusions, Manifest, MeasuredAccuracy

FEWEST_PICTURES: Final = 3  # of each class: one is left out, and a mean of a single other one says little
EXACT: Final = "donot_use_mm_for_euclid_dist"  # or rounding would decide between two that are equally near


class Quality(BaseModel):
    """The accuracy to expect, 0 to 1: the mean over the labels of `per_label`, each as if it were as frequent.

    `counts` says from how many pictures of each label it was estimated, and `explanation` says all this to a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    source: Literal["evaluation", "pictures"]
    per_label: dict[str, float]
    counts: dict[str, int]
    explanation: str


def quality_of_labels(manifest: Manifest, labels: Sequence[str]) -> Quality | None:
    """What the memory's evaluation says of these labels of it; None where it says nothing of one of them.

    Of the fresh networks that told all labels apart, only the answers within these labels count: how often was such
    an answer right? A classifier of fewer labels has an easier task, so that this is taken for its accuracy. It has
    also seen less, so that this promises a few points too much: `python -m benchmarks.quality` measures how many.
    """
    row = counted_row(manifest)
    if row is None or row.confusions is None:
        return None
    positions = [manifest.labels.index(label) for label in labels]
    within = [sum(row.confusions[position][other] for other in positions) for position in positions]
    if not all(within):
        return None
    right = [row.confusions[position][position] for position in positions]
    return Quality(
        accuracy=_mean([each / total for each, total in zip(right, within, strict=True)]),
        source="evaluation",
        per_label={label: each / total for label, each, total in zip(labels, right, within, strict=True)},
        counts={label: _pictures(row.confusions, row.runs, at) for label, at in zip(labels, positions, strict=True)},
        explanation=(
            f"An estimate, not a test of this classifier: {_networks(row.runs)} trained from the whole memory looked "
            f"at test pictures ({row.data}), and this is how often an answer within these {len(labels)} labels was "
            "right. That tends to promise a little too much."
        ),
    )


def quality_of_pictures(features: Mapping[str, Tensor]) -> Quality | None:
    """How well the pictures sent tell their own classes apart; `features` [n, d] of each class, by name.

    Each picture in turn is left out and given to the class with the nearest mean of the others (leave-one-out nearest
    class mean); one that is as near to another class counts as wrong. None where a class has fewer than three
    pictures, where there is one class, and where the features are not finite.
    """
    counts = {name: len(each) for name, each in features.items()}
    fewest = min(counts.values(), default=0)
    if len(counts) < 2 or fewest < FEWEST_PICTURES:
        return None
    if not all(bool(each.isfinite().all()) for each in features.values()):
        return None
    means = torch.stack([each.double().mean(dim=0) for each in features.values()])  # [k, d]
    per_label = {}
    for position, (name, each) in enumerate(features.items()):
        distances = torch.cdist(each.double(), means, compute_mode=EXACT)  # [n, k]
        # Without x, the mean m of n moves to (n m - x) / (n - 1), which is n / (n - 1) times as far from x.
        own = distances[:, position] * counts[name] / (counts[name] - 1)
        distances[:, position] = torch.inf
        per_label[name] = float((own < distances.amin(dim=1)).double().mean())
    weight = 100 / (fewest * len(counts))
    return Quality(
        accuracy=_mean(list(per_label.values())),
        source="pictures",
        per_label=per_label,
        counts=counts,
        explanation=(
            f"An estimate, not a test of this classifier: each of the {sum(counts.values())} pictures sent was left "
            "out in turn and given to the class whose other pictures it resembles most, as the memory's encoder sees "
            f"them; this is how often that was its own class. One picture is worth up to {weight:.3g} points of it."
        ),
    )


def no_estimate_reason(bundles: Sequence[str]) -> str:
    """Why there is no estimate for labels of several bundles, as a sentence."""
    return (
        f"Its classes are of {len(bundles)} memories ({', '.join(bundles)}), and how often pictures of one are taken "
        "for those of another was never measured: test it on pictures of your own."
    )


def counted_row(manifest: Manifest) -> MeasuredAccuracy | None:
    """The measurement whose confusions to go by; None where none were counted.

    It is the latest by the schedule that classifiers are trained with, or else the latest of all.
    """
    counted = [row for row in manifest.accuracy if row.confusions is not None]
    network = str(manifest.retraining.network)
    own = [row for row in counted if row.protocol == "bundle" and row.network == network]
    best = own or counted
    return best[-1] if best else None


def _pictures(confusions: Confusions, runs: int, position: int) -> int:
    return sum(confusions[position]) // runs


def _networks(runs: int) -> str:
    return "a fresh network" if runs == 1 else f"{runs} fresh networks"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
