"""Small runs of the paper's methods."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORK, NETWORKS, Small

UNROLLED = [
    *NETWORKS, "objective.steps=8", "objective.window=8", "objective.real_batch=60", "objective.rate=0.05",
    "objective.eager=true", "outer.optimiser=adam", "outer.rate=0.05", "retraining.steps=60",
    "retraining.learning_rate=0.05", "preprocessing=standardise", "objective.augmentation=none",
    "retraining.augmentation=none",
]  # fmt: skip
PICTURES = [*UNROLLED, f"queries.encoder={NETWORK}", "queries.size=16", "objective.classes_per_step=3"]

SMALL = {
    "window": Small([*UNROLLED, "objective.window=4"]),
    "rtp": Small(UNROLLED),
    "bptt": Small(UNROLLED, rows=None),
    "bptt-small": Small(UNROLLED, rows=None),
    "principal": Small([*NETWORKS, "retraining.steps=60", "retraining.learning_rate=0.05"]),
    "image-addressing": Small(PICTURES, images_per_class=8, rows=3),
    "image-addressing-warm": Small(
        [*PICTURES, "queries.pretraining_steps=30", "retraining.learning_rate=0.02"], images_per_class=8, rows=3
    ),
}
