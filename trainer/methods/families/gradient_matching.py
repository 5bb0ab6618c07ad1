"""Gradient matching: recalled items give networks the same gradients as real ones."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import MultiFormationSpec, StoredItemsSpec
from trainer.methods.specs.objectives.matching import GradientMatchingSpec
from trainer.methods.specs.objectives.networks import RealNetworksSpec, RecalledNetworksSpec
from trainer.methods.specs.outer import Outer, Sgd
from trainer.methods.specs.starts import NoiseStart, RealStart

NARROW = {"network": NetworkSpec(filters=64), "real_per_class": 64}  # for a few minutes of a processor


def dc() -> Method:
    """Gradients of each class, from noise, without augmentation."""
    return Method(
        name="dc", citation="Zhao, Mopuri and Bilen, Dataset Condensation (2021), and the authors' main.py",
        memory=StoredItemsSpec(resolution="full"), start=NoiseStart(), objective=GradientMatchingSpec(),
        outer=Outer(optimiser=Sgd(momentum=0.5), rate=0.1, steps=1_000),
        retraining=Retraining(
            network=NetworkSpec(), steps=300, learning_rate=0.01, weight_decay=5e-4, decay="tenth", rows_per_class=25
        ),
    )  # fmt: skip


def dc_small() -> Method:
    """`dc` with narrower networks, fewer real pictures and fewer steps."""
    return dc().varied("dc-small", objective=NARROW, outer={"steps": 300})


def dsa() -> Method:
    """Gradients of each class with one random transform for recalled and real pictures, from real pictures."""
    return dc().varied(
        "dsa", citation="Zhao and Bilen, Differentiable Siamese Augmentation (2021), and the authors' main.py",
        start=RealStart(), objective={"augmentation": "dsa"}, retraining={"augmentation": "dsa", "steps": 1_000},
    )  # fmt: skip


def dsa_small() -> Method:
    """`dsa` with narrower networks, fewer real pictures and fewer steps."""
    return dsa().varied("dsa-small", objective=NARROW, outer={"steps": 300})


def dcc() -> Method:
    """Mean gradients over all classes, which carry the differences between classes, from network number 250 on."""
    # The authors train networks at one picture per class too; at ten they take 50 epochs.
    return dsa().varied(
        "dcc", citation="Lee et al., Contrastive Signals (2022), as DSAC, and the authors' main.py",
        objective={"contrast": True, "networks": RecalledNetworksSpec(loops=10, epochs=5)}, outer={"steps": 10_000},
    )  # fmt: skip


def dcc_small() -> Method:
    """`dcc` with narrower networks, fewer real pictures and fewer steps, all of them contrastive."""
    return dcc().varied("dcc-small", objective=NARROW | {"contrast_from": 0}, outer={"steps": 300})


def idc() -> Method:
    """Four recalled pictures in the pixels of one; gradients of convolutions at networks trained on real pictures.

    The rate is for one stored picture per class and colour pictures; it grows with their number. For Fashion-MNIST and
    MNIST use objective.distance=absolute and outer.rate=1e-4.
    """
    return dsa().varied(
        "idc", citation="Kim et al., Information-Intensive Condensation (2022), and the authors' condense.py",
        memory=MultiFormationSpec(), objective=GradientMatchingSpec(
            real_per_class=64, rows_per_class=128, augmentation="color+crop+cutout",
            distance="squared", layers="convolutions", networks=RealNetworksSpec(),
        ),
        outer={"rate": 0.008, "steps": 200_000}, retraining={"rows_per_class": 6},
    )  # fmt: skip


def idc_small() -> Method:
    """`idc` with narrower networks, shorter trainings between comparisons, and fewer comparisons."""
    networks = RealNetworksSpec(loops=20, items=256)
    objective = {"network": NetworkSpec(filters=64), "real_per_class": 32, "networks": networks}
    return idc().varied("idc-small", objective=objective, outer={"steps": 1_000, "rate": 0.1})


METHODS = (dc, dc_small, dsa, dsa_small, dcc, dcc_small, idc, idc_small)
