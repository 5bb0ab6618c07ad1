"""Unrolled training: the loss on real pictures of networks that were trained on recalled ones."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import StoredItemsSpec
from trainer.methods.specs.objectives.kernels import KernelRegressionSpec, TrainedPoolSpec
from trainer.methods.specs.objectives.steps_ahead import StepsAheadSpec
from trainer.methods.specs.objectives.unrolled import InnerAdam, InnerSgd, UnrolledSpec
from trainer.methods.specs.outer import Adam, Outer
from trainer.methods.specs.preprocessings import ZcaSpec
from trainer.methods.specs.starts import NoiseStart, RealStart

NARROW = NetworkSpec(filters=64)


def dd() -> Method:
    """Thirty steps on the same pictures in the same order, each with a learned step size."""
    return Method(
        name="dd", citation="Wang et al., Dataset Distillation (2018), with ConvNets instead of LeNets",
        memory=StoredItemsSpec(resolution="full"), start=NoiseStart(),
        objective=UnrolledSpec(
            steps=30, window=30, rate=0.02, learn_rate=True, rate_per_step=True, order="sequence",
            optimiser=InnerSgd(momentum=0.0), rows_per_class=1, real_batch=1_024,
        ),
        outer=Outer(optimiser=Adam(), rate=0.01, decay="cosine", steps=20_000),
        retraining=Retraining(
            network=NetworkSpec(), steps=30, learning_rate=0.02, momentum=0.0, rows_per_class=1, order="sequence"
        ),
    )  # fmt: skip


def dd_small() -> Method:
    """`dd` with narrower networks, fewer real pictures and larger steps."""
    return dd().varied(
        "dd-small", objective={"network": NARROW, "real_batch": 256}, outer={"rate": 0.03, "steps": 1_000},
        retraining={"network": NARROW},
    )  # fmt: skip


def sldd() -> Method:
    """`dd` with learned soft targets."""
    return dd().varied(
        "sldd", citation="Sucholutsky and Schonlau, Soft-Label Dataset Distillation (2021), with ConvNets",
        memory={"targets": "soft", "targets_per": "item"},
    )  # fmt: skip


def sldd_small() -> Method:
    """`sldd` with narrower networks, fewer real pictures and larger steps."""
    small = dd_small()
    return sldd().varied("sldd-small", objective=small.objective, outer=small.outer, retraining=small.retraining)


def ld() -> Method:
    """Learned soft targets of real pictures, one step ahead of a network that is trained on them continuously."""
    return Method(
        name="ld", citation="Bohdal et al., Flexible Dataset Distillation (2020), with networks of a fixed age",
        memory=StoredItemsSpec(resolution="full", targets="soft", targets_per="item", frozen=("items",)),
        start=RealStart(), objective=StepsAheadSpec(), outer=Outer(optimiser=Adam(), rate=0.01, steps=20_000),
        retraining=Retraining(network=NetworkSpec(), steps=300, learning_rate=0.01, rows_per_class=5, decay="cosine"),
    )  # fmt: skip


def ld_small() -> Method:
    """`ld` with narrower networks, fewer real pictures and larger steps."""
    return ld().varied(
        "ld-small", objective={"network": NARROW, "real_batch": 256}, outer={"rate": 0.05, "steps": 2_000}
    )


def ld_rr() -> Method:
    """`ld` with ridge regression on the features of the network instead of the step."""
    return ld().varied(
        "ld-rr", objective=KernelRegressionSpec(
            kernel=TrainedPoolSpec(networks=1, rate=1e-3, longest=200, batch=50), loss="cross_entropy", ridge=1e-3,
            real_batch=1_024, scale=5.0,
        ),
    )  # fmt: skip


def ld_rr_small() -> Method:
    """`ld_rr` with narrower networks, fewer real pictures and larger steps."""
    small = ld_small()
    return ld_rr().varied("ld-rr-small", objective={"network": NARROW, "real_batch": 256}, outer=small.outer)


def rat() -> Method:
    """Stored pictures through random windows of training by Adam."""
    return Method(
        name="rat", citation="Feng et al., Embarrassingly Simple Dataset Distillation (2024)",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(), preprocessing=ZcaSpec(),
        objective=UnrolledSpec(
            steps=200, window=60, rate=1e-3, optimiser=InnerAdam(), rows_per_class=10, real_batch=5_000
        ),
        outer=Outer(optimiser=Adam(), rate=1e-3, clip=2.0, steps=20_000),
        retraining=Retraining(network=NetworkSpec(), steps=300, learning_rate=0.01, rows_per_class=10, decay="cosine"),
    )  # fmt: skip


def rat_small() -> Method:
    """`rat` with narrower networks, shorter trainings and windows, and fewer real pictures."""
    objective = {"network": NARROW, "steps": 40, "window": 10, "real_batch": 256}
    return rat().varied("rat-small", objective=objective, outer={"rate": 0.02, "decay": "cosine", "steps": 1_000})


METHODS = (dd, dd_small, sldd, sldd_small, ld, ld_small, ld_rr, ld_rr_small, rat, rat_small)
