"""Small runs of the paper's container under objectives of other systems."""

from __future__ import annotations

from tests.trainer.methods.small.distribution_matching import MATCHING
from tests.trainer.methods.small.small import Small
from tests.trainer.methods.small.trajectory_matching import TRAJECTORY

SMALL = {
    "dm-bases": Small([*MATCHING, "objective.rows_per_class=2"]),
    "dsa-bases": Small([*MATCHING, "objective.rows_per_class=2"]),
    "mtt-bases": Small([*TRAJECTORY, "objective.batch=4", "outer.rate=0.05"]),
}
