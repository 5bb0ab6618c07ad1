"""An estimate of a classifier's accuracy before it has been tested.

For a classifier of labels, the estimate comes from the memory's evaluation, which is stored in the manifest. For a
classifier of pictures, it comes from the pictures that were sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recall_server.core.bundle.manifest import Confusions, Manifest, MeasuredAccuracy

FEWEST_PICTURES: Final = 3  # per class: one is left out, and the mean of a single other one says little
EXACT: Final = "donot_use_mm_for_euclid_dist"  # so that rounding cannot decide between equal distances


class Quality(BaseModel):
    """The estimated accuracy, 0 to 1: the mean of `per_label`, in which every label has the same weight.

    `counts` is the number of pictures of each label that the estimate is based on; `explanation` is for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    source: Literal["evaluation", "pictures"]
    per_label: dict[str, float]
    counts: dict[str, int]
    explanation: str


def quality_of_labels(manifest: Manifest, labels: Sequence[str]) -> Quality | None:
    """The estimate for some labels of a memory, from its evaluation; None if one of them was not measured.

    The evaluated networks distinguish all labels of the memory. The estimate counts only their answers within these
    labels, and is the share of those answers that were right. A classifier of fewer labels has seen less data, so the
    estimate is a few points too high: `python -m benchmarks.quality` measures by how much.
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
            f"An estimate, not a test of this classifier: {_networks(row.runs)} trained from the whole memory "
            f"classified test pictures ({row.data}); this is the share of answers within these {len(labels)} labels "
            "that were right. It tends to be slightly too high."
        ),
    )


def quality_of_pictures(features: Mapping[str, Tensor]) -> Quality | None:
    """The leave-one-out accuracy of a nearest-mean classifier of these pictures; `features` [n, d] by class name.

    Each picture in turn is left out and assigned to the class whose mean is nearest; a tie counts as wrong. Returns
    None for fewer than two classes, for a class of fewer than FEWEST_PICTURES pictures, and for features that are not
    finite.
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
        # Without x, the mean m of n vectors becomes (n m - x) / (n - 1), which is n / (n - 1) times as far from x.
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
            "out in turn and assigned to the class whose other pictures are most similar in the features of the "
            "memory's encoder; this is how often that was its own class. One picture changes the estimate by up to "
            f"{weight:.3g} points."
        ),
    )


def no_estimate_reason(bundles: Sequence[str]) -> str:
    """Why there is no estimate for labels of several bundles, as a sentence."""
    return (
        f"Its classes come from {len(bundles)} memories ({', '.join(bundles)}), and how often pictures of one are "
        "mistaken for pictures of another was never measured: test it on pictures of your own."
    )


def counted_row(manifest: Manifest) -> MeasuredAccuracy | None:
    """The measurement whose confusions to use; None if no measurement has any."""
    return latest_by_own_schedule(manifest, [row for row in manifest.accuracy if row.confusions is not None])


def latest_by_own_schedule(manifest: Manifest, rows: Sequence[MeasuredAccuracy]) -> MeasuredAccuracy | None:
    """The latest of these measurements by the memory's own schedule, or else the latest of all; None for no rows."""
    network = str(manifest.retraining.network)
    own = [row for row in rows if row.protocol == "bundle" and row.network == network]
    best = own or rows
    return best[-1] if best else None


def _pictures(confusions: Confusions, runs: int, position: int) -> int:
    return sum(confusions[position]) // runs


def _networks(runs: int) -> str:
    return "a fresh network" if runs == 1 else f"{runs} fresh networks"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def wilson_interval(right: float, pictures: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many pictures (Wilson, 1927), within 0 to 1."""
    share, deviations = right / pictures, 1.96**2 / pictures
    middle = (share + deviations / 2) / (1 + deviations)
    half = (share * (1 - share) * deviations + deviations**2 / 4) ** 0.5 / (1 + deviations)
    return max(0.0, middle - half), min(1.0, middle + half)
