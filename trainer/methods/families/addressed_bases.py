"""The paper's memory under the objectives of other systems: bases and addressing matrices instead of pictures."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.families import distribution_matching, gradient_matching, trajectory_matching
from trainer.methods.method import Method
from trainer.methods.specs.memories import AddressedBasesSpec
from trainer.methods.specs.outer import Adam, Outer
from trainer.methods.specs.preprocessings import StandardiseSpec
from trainer.methods.specs.starts import PrincipalStart

CONTAINER = "the container of Deng and Russakovsky (2022) under the objective of"
RETRAINING = Retraining(network=NetworkSpec(), steps=300, learning_rate=0.01, rows_per_class=10, decay="cosine")


def dm_bases() -> Method:
    """Bases from the leading eigenvectors; recalled pictures match the mean features of real ones."""
    return distribution_matching.dm_small().varied(
        "dm-bases", citation=f"{CONTAINER} Zhao and Bilen (2023)", memory=AddressedBasesSpec(), start=PrincipalStart(),
        objective={"rows_per_class": 32, "augmentation": "none"}, retraining=RETRAINING,
        outer=Outer(optimiser=Adam(), rate=0.01, decay="cosine", steps=2_000),
    )  # fmt: skip


def dsa_bases() -> Method:
    """Bases from the leading eigenvectors; recalled pictures match the gradients of real ones, class by class."""
    objective = gradient_matching.dsa_small().objective
    return dm_bases().varied(
        "dsa-bases", citation=f"{CONTAINER} Zhao and Bilen (2021)", outer={"steps": 500},
        objective=objective.model_copy(update={"rows_per_class": 32, "augmentation": "none"}),
    )  # fmt: skip


def mtt_bases() -> Method:
    """Bases from the leading eigenvectors; networks trained on recalled pictures follow the trajectories of experts."""
    objective = trajectory_matching.mtt_small().objective
    return dm_bases().varied(
        "mtt-bases", citation=f"{CONTAINER} Cazenavette et al. (2022)", preprocessing=StandardiseSpec(),
        objective=objective.model_copy(update={"batch": 100, "augmentation": "none"}),
        outer={"steps": 500, "rates": {"rate": 1e-4}},
    )  # fmt: skip


METHODS = (dm_bases, dsa_bases, mtt_bases)
