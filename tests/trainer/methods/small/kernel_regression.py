"""Small runs of kernel regression."""

from __future__ import annotations

from tests.trainer.methods.small.small import NETWORKS, Small

REGRESSION = ["objective.real_batch=60", "retraining.steps=60", "retraining.learning_rate=0.05"]
POOL = [*NETWORKS, *REGRESSION, "objective.kernel.networks=2", "objective.kernel.longest=3", "outer.rate=0.01"]
RANDOM = [*NETWORKS, *REGRESSION, "objective.kernel.networks=1", "objective.kernel.filters=8", "outer.rate=0.02"]
WIDE = ["objective.network=mlp:hidden=64", "retraining.network=mlp:hidden=64", *REGRESSION]

SMALL = (
    {"kip": Small(WIDE, rows=None)}
    | dict.fromkeys(("frepo", "frepo-small"), Small(POOL, rows=None))
    | dict.fromkeys(("rfad", "rfad-small"), Small(RANDOM, rows=None))
)
