"""Small runs of methods with a pre-trained encoder, which sees pictures of 32 or 64 pixels."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

MOSAICS = [
    *NETWORKS, "start.size=64", "start.teacher_pictures=40", "start.temperature=1", "memory.factor=2",
    "retraining.steps=60", "retraining.learning_rate=0.05",
]  # fmt: skip

GRADIENTS = [
    *NETWORKS, "objective.size=32", "objective.views=1", "objective.real_views=1", "objective.real_per_class=20",
    "retraining.steps=60", "retraining.learning_rate=0.05",
]  # fmt: skip

SMALL = {"mosaics": Small(MOSAICS, images_per_class=9, rows=20)}
SMALL |= dict.fromkeys(("lgm", "lgm-small"), Small(GRADIENTS, rows=None))
