"""Distribution matching: recalled items match the mean features of real ones."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import StoredItemsSpec
from trainer.methods.specs.objectives.matching import DistributionMatchingSpec, FeatureAlignmentSpec
from trainer.methods.specs.objectives.networks import SteadyNetworksSpec
from trainer.methods.specs.outer import Outer, Sgd
from trainer.methods.specs.starts import NoiseStart, RealStart

# How the authors of siamese augmentation evaluate: 1,000 epochs, for up to 25 items of each class one step each.
SIAMESE_EVALUATION = Retraining(
    network=NetworkSpec(), steps=1_000, learning_rate=0.01, weight_decay=5e-4, decay="tenth", rows_per_class=25,
    augmentation="dsa",
)  # fmt: skip


def dm() -> Method:
    """Class means of features of random networks, with siamese augmentation."""
    return Method(
        name="dm", citation="Zhao and Bilen, Distribution Matching (2023), and the authors' main_DM.py",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(),
        objective=DistributionMatchingSpec(real_per_class=256, augmentation="dsa"),
        outer=Outer(optimiser=Sgd(momentum=0.5), rate=1.0, steps=20_000), retraining=SIAMESE_EVALUATION,
    )  # fmt: skip


def dm_small() -> Method:
    """`dm` with narrower networks, fewer real pictures and fewer steps."""
    return dm().varied(
        "dm-small", objective={"network": NetworkSpec(filters=64), "real_per_class": 64}, outer={"steps": 2_000}
    )


def cafe() -> Method:
    """Activations of all layers, and centres of recalled pictures that separate real ones, from noise.

    The authors halve the rate three times instead of decaying it by a cosine, and do not limit their loops.
    """
    return dm().varied(
        "cafe", citation="Wang et al., CAFE (2022), and the authors' distill.py", start=NoiseStart(),
        objective=FeatureAlignmentSpec(), outer={"rate": 0.1, "decay": "cosine", "steps": 20_000},
        retraining={"augmentation": "none", "steps": 600},
    )  # fmt: skip


def cafe_small() -> Method:
    """`cafe` with narrower networks, fewer real pictures, and shorter loops from real pictures."""
    networks = SteadyNetworksSpec(loops=10, epochs=10, per_class=16)
    objective = {"network": NetworkSpec(filters=64), "real_per_class": 64, "networks": networks}
    return cafe().varied("cafe-small", start=RealStart(), objective=objective, outer={"steps": 500})


METHODS = (dm, dm_small, cafe, cafe_small)
