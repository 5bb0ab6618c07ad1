"""Small runs of trajectory matching, with experts of few epochs that are recorded into the cache."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

TRAJECTORY = [
    *NETWORKS, "objective.steps=5", "objective.latest_start=2", "objective.rate=0.05", "objective.experts.count=2",
    "objective.experts.epochs=4", "objective.experts.items=60", "objective.experts.batch=20",
    "objective.experts.augmentation=none", "objective.augmentation=none", "preprocessing=standardise",
    "outer.rate=3", "outer.average=0.5", "retraining.steps=60", "retraining.augmentation=none",
]  # fmt: skip

HALLUCINATED = Small([*TRAJECTORY, "memory.count=2", "outer.rate=0.03"], images_per_class=4, rows=None)

SMALL = dict.fromkeys(
    ("mtt", "mtt-small", "ftd", "ftd-small", "tesla", "tesla-small"), Small(TRAJECTORY, rows=None)
) | {
    "haba": HALLUCINATED,
    "haba-small": HALLUCINATED,
}
