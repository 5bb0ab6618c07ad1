"""Selections: bundles of real items, which are the baselines of distillation. No outer step is taken."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import StoredItemsSpec
from trainer.methods.specs.objectives.base import NoObjectiveSpec
from trainer.methods.specs.outer import Outer
from trainer.methods.specs.starts import RealStart


def random() -> Method:
    """Random real pictures of each class."""
    return Method(
        name="random", citation="the baseline of every paper of the field",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(), objective=NoObjectiveSpec(), outer=Outer(),
        retraining=Retraining(
            network=NetworkSpec(), steps=300, learning_rate=0.01, rows_per_class=10, decay="cosine"
        ),
    )  # fmt: skip


def herding() -> Method:
    """Real pictures whose mean is closest to that of their class, in the features of a trained network."""
    return random().varied(
        "herding", citation="Welling (2009), as in iCaRL (Rebuffi et al., 2017)", start=RealStart(selection="herding")
    )


def k_center() -> Method:
    """Real pictures that cover their class: each is the one farthest from those chosen before."""
    return random().varied(
        "k-center", citation="Sener and Savarese, Active Learning (2018)", start=RealStart(selection="k-center")
    )


METHODS = (random, herding, k_center)
