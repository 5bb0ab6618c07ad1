"""Small runs of memories whose images are decoded."""

from __future__ import annotations

from tests.trainer.methods.small.distribution_matching import MATCHING
from tests.trainer.methods.small.small import Small
from tests.trainer.methods.small.unrolled import IN_SEQUENCE

SIZE = ["memory.channels=2", "memory.filters=6"]
GENERATOR = [
    *IN_SEQUENCE, "memory.channels=4", "memory.filters=16", "memory.noise_size=8", "memory.most_rows=16",
    "objective.rows_per_class=2", "objective.rate=0.2", "objective.real_batch=200", "outer.rate=0.03",
    "retraining.rows_per_class=2", "retraining.learning_rate=0.2", "retraining.steps=8",
]  # fmt: skip
CODES = [*MATCHING, *SIZE, "start.steps=60", "outer.rate=0.02"]

SMALL = dict.fromkeys(("gtn", "gtn-small"), Small(GENERATOR, images_per_class=40, rows=None)) | dict.fromkeys(
    ("kfs", "kfs-small", "it-gan"), Small(CODES, images_per_class=12, rows=4)
)
