"""Small runs of distribution matching."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

MATCHING = [
    *NETWORKS, "objective.real_per_class=16", "retraining.steps=60", "retraining.learning_rate=0.05",
    "retraining.augmentation=none",
]  # fmt: skip

STEADY = [*MATCHING, "objective.networks.loops=3", "objective.networks.epochs=3", "objective.networks.per_class=8"]

SMALL = dict.fromkeys(("dm", "dm-small"), Small(MATCHING, rows=None)) | dict.fromkeys(
    ("cafe", "cafe-small"), Small([*STEADY, "outer.rate=0.3"], rows=None)
)
