"""Small runs of gradient matching."""

from __future__ import annotations

from tests.trainer.methods.small.distribution_matching import MATCHING
from tests.trainer.methods.small.small import Small

TRAINED = [*MATCHING, "objective.networks.loops=2", "objective.networks.epochs=3"]
REAL = [
    *MATCHING, "objective.networks.loops=2", "objective.networks.items=20", "objective.networks.batch=10",
    "outer.rate=0.1",
]  # fmt: skip
CONTRASTIVE = [*TRAINED, "objective.contrast_from=1"]

SMALL = (
    dict.fromkeys(("dc", "dc-small"), Small([*MATCHING, "outer.rate=0.3"], rows=None))
    | dict.fromkeys(("dsa", "dsa-small"), Small(TRAINED, rows=None))
    | dict.fromkeys(("dcc", "dcc-small"), Small(CONTRASTIVE, rows=None))
    | dict.fromkeys(("idc", "idc-small"), Small(REAL, rows=None))
)
