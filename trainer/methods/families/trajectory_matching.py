"""Trajectory matching: networks trained on recalled items end where experts trained on real ones did."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from trainer.methods.families.distribution_matching import SIAMESE_EVALUATION
from trainer.methods.method import Method
from trainer.methods.specs.memories import HallucinatorsSpec, StoredItemsSpec
from trainer.methods.specs.objectives.trajectory import (
    ExpertsSpec,
    HallucinatedTrajectoriesSpec,
    TrajectoryMatchingSpec,
)
from trainer.methods.specs.outer import Adam, Outer, Sgd
from trainer.methods.specs.preprocessings import StandardiseSpec, ZcaSpec
from trainer.methods.specs.starts import RealStart

# Three experts of some minutes that all the small methods share: twenty epochs of 5,000 pictures each.
FEW = ExpertsSpec(count=3, epochs=20, items=5_000)
SHORT = {"network": NetworkSpec(filters=64), "steps": 20, "latest_start": 10, "experts": FEW}


def mtt() -> Method:
    """Weights after training on recalled pictures, compared with those of experts, at one picture per class."""
    return Method(
        name="mtt", citation="Cazenavette et al., Matching Training Trajectories (2022), and the authors' distill.py",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(), preprocessing=ZcaSpec(),
        objective=TrajectoryMatchingSpec(steps=50, expert_epochs=2, latest_start=2, rate=0.01, augmentation="dsa"),
        outer=Outer(optimiser=Sgd(momentum=0.5), rate=100.0, rates={"rate": 1e-7}, steps=5_000),
        retraining=SIAMESE_EVALUATION,
    )  # fmt: skip


def mtt_small() -> Method:
    """`mtt` with few short experts of narrower networks, and fewer steps."""
    return mtt().varied("mtt-small", objective=SHORT, outer={"steps": 500})


def ftd() -> Method:
    """`mtt` with experts in flat minima, and pictures averaged over outer steps."""
    return mtt().varied(
        "ftd", citation="Du et al., Flat Trajectory Distillation (2023), and the authors' buffer_FTD.py",
        objective={"experts": ExpertsSpec(radius=0.01)}, outer={"average": 0.9999},
    )  # fmt: skip


def ftd_small() -> Method:
    """`ftd` with few short experts of narrower networks, and fewer steps."""
    experts = FEW.model_copy(update={"radius": 0.01})
    return ftd().varied("ftd-small", objective=SHORT | {"experts": experts}, outer={"steps": 500, "average": 0.99})


def tesla() -> Method:
    """`mtt` with the weights of each step held constant in the gradient, without whitening."""
    return mtt().varied(
        "tesla", citation="Cui et al., Scaling Up to ImageNet with Constant Memory (2023), and the authors' distill.py",
        preprocessing=StandardiseSpec(), objective={"gradient": "constant", "latest_start": 5},
        outer={"rate": 1_000.0, "steps": 10_000},
    )  # fmt: skip


def tesla_small() -> Method:
    """`tesla` with few short experts of narrower networks, and fewer steps."""
    return tesla().varied("tesla-small", objective=SHORT, outer={"steps": 500})


def haba() -> Method:
    """Bases and hallucinators, each of which turns every base into a picture. It needs two pictures per class."""
    return mtt().varied(
        "haba", citation="Liu et al., Dataset Factorization (2022), and the authors' distill_fac.py",
        memory=HallucinatorsSpec(),
        objective=HallucinatedTrajectoriesSpec(steps=50, latest_start=2, rate=0.01, augmentation="dsa"),
        outer={"optimiser": Sgd(momentum=0.95), "steps": 15_000},
    )  # fmt: skip


def haba_small() -> Method:
    """`haba` for one colour picture per class: two hallucinators, bases of one channel, few short experts, and Adam."""
    return haba().varied(
        "haba-small", memory=HallucinatorsSpec(count=2, channels="one"), objective=SHORT,
        outer=Outer(optimiser=Adam(), rate=0.01, rates={"rate": 1e-5}, steps=500),
    )  # fmt: skip


METHODS = (mtt, mtt_small, ftd, ftd_small, tesla, tesla_small, haba, haba_small)
