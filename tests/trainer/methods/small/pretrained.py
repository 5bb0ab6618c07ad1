"""Small runs of methods with a pre-trained encoder, which sees pictures of 32 pixels."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

MOSAICS = [
    *NETWORKS, "start.size=32", "start.teacher_pictures=20", "start.temperature=1", "memory.factor=2",
    "retraining.steps=60", "retraining.learning_rate=0.05",
]  # fmt: skip

GRADIENTS = [
    *NETWORKS, "objective.size=32", "objective.views=1", "objective.real_views=1", "objective.real_per_class=20",
    "retraining.steps=60", "retraining.learning_rate=0.05",
]  # fmt: skip

SMALL = {"mosaics": Small(MOSAICS)} | dict.fromkeys(("lgm", "lgm-small"), Small(GRADIENTS, rows=None))
