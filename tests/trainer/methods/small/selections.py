"""Small runs of selections of real items."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORK, NETWORKS, Small

REAL = [
    *NETWORKS, f"start.network={NETWORK}", "start.training_steps=30", "retraining.steps=60",
    "retraining.learning_rate=0.05",
]  # fmt: skip

SMALL = dict.fromkeys(("random", "herding", "k-center"), Small(REAL, rows=None))
