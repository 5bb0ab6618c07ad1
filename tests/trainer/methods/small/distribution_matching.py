"""Small runs of distribution matching."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

MATCHING = [
    *NETWORKS, "objective.real_per_class=16", "retraining.steps=60", "retraining.learning_rate=0.05",
    "retraining.augmentation=none",
]  # fmt: skip

SMALL = dict.fromkeys(("dm", "dm-small"), Small(MATCHING, rows=None))
