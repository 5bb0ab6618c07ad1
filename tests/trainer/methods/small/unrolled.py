"""Small runs of unrolled training."""

from __future__ import annotations

from tests.trainer.methods.small.remember_the_past import UNROLLED
from tests.trainer.methods.small.small import NETWORKS, Small

RATE = "objective.rate=0.05"
IN_SEQUENCE = [
    *(each for each in UNROLLED if each != RATE), "objective.rate=0.5", "retraining.learning_rate=0.5",
    "outer.rates.log_rate=0.05",
]  # fmt: skip
LABELS = [
    *NETWORKS,
    "objective.real_batch=60",
    "outer.rate=0.1",
    "retraining.steps=60",
    "retraining.learning_rate=0.05",
]
AHEAD = [*LABELS, "objective.longest=3"]
RIDGE = [*LABELS, "objective.kernel.longest=3"]
ADAM = [*(each for each in UNROLLED if each != RATE), "objective.rate=0.01"]

SMALL = (
    dict.fromkeys(("dd", "dd-small", "sldd", "sldd-small"), Small(IN_SEQUENCE, rows=None))
    | dict.fromkeys(("ld", "ld-small"), Small(AHEAD, images_per_class=3, rows=2))
    | dict.fromkeys(("ld-rr", "ld-rr-small"), Small(RIDGE, images_per_class=3, rows=2))
    | dict.fromkeys(("rat", "rat-small"), Small(ADAM, rows=None))
)
