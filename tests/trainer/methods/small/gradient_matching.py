"""Small runs of gradient matching."""

from __future__ import annotations

from tests.trainer.methods.small.distribution_matching import MATCHING
from tests.trainer.methods.small.small import Small

TRAINED = [*MATCHING, "objective.networks.loops=2", "objective.networks.epochs=3"]
CONTRASTIVE = [*TRAINED, "objective.contrast_from=1"]

SMALL = (
    dict.fromkeys(("dc", "dc-small"), Small([*MATCHING, "outer.rate=0.3"], rows=None))
    | dict.fromkeys(("dsa", "dsa-small"), Small(TRAINED, rows=None))
    | dict.fromkeys(("dcc", "dcc-small"), Small(CONTRASTIVE, rows=None))
)
