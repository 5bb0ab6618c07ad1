"""Kernel regression: ridge regression on recalled items predicts real ones."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import StoredItemsSpec
from trainer.methods.specs.objectives.kernels import (
    KernelRegressionSpec,
    NeuralTangentSpec,
    RandomFeaturesSpec,
    TrainedPoolSpec,
)
from trainer.methods.specs.outer import Adam, Outer
from trainer.methods.specs.starts import RealStart

WIDE = NetworkSpec(architecture="mlp", hidden=1024, depth=1)  # the finite network of the tangent kernel


def kip() -> Method:
    """The neural tangent kernel of a fully connected network with one hidden layer, in closed form."""
    return Method(
        name="kip", citation="Nguyen et al., Kernel Inducing Points (2021), and the authors' notebook",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(),
        objective=KernelRegressionSpec(network=WIDE, kernel=NeuralTangentSpec()),
        outer=Outer(optimiser=Adam(), rate=0.04, steps=300),
        retraining=Retraining(network=WIDE, steps=300, learning_rate=0.02, rows_per_class=10, decay="cosine"),
    )  # fmt: skip


def frepo() -> Method:
    """Features of a pool of networks that are trained on the memory, with learned targets."""
    return Method(
        name="frepo", citation="Zhou et al., Neural Feature Regression with Pooling (2022), by Adam instead of LAMB",
        memory=StoredItemsSpec(resolution="full", targets="unbounded", targets_per="item"), start=RealStart(),
        objective=KernelRegressionSpec(kernel=TrainedPoolSpec(), real_batch=1_024, margin=True),
        outer=Outer(optimiser=Adam(), rate=3e-4, decay="cosine", steps=500_000),
        retraining=Retraining(
            network=NetworkSpec(), steps=1_000, learning_rate=0.003, rows_per_class=50, decay="cosine",
            loss="squared_error",
        ),
    )  # fmt: skip


def frepo_small() -> Method:
    """`frepo` with a smaller pool of narrower networks, fewer real pictures and larger steps."""
    kernel = TrainedPoolSpec(networks=4, rate=1e-3)
    objective = {"network": NetworkSpec(filters=64), "kernel": kernel, "real_batch": 256}
    return frepo().varied("frepo-small", objective=objective, outer={"rate": 0.01, "steps": 3_000})


def rfad() -> Method:
    """The Gaussian process kernel of random convolutional networks, with a cross-entropy of scaled predictions."""
    return Method(
        name="rfad", citation="Loo et al., Random Feature Approximation (2022), by Adam, without their pixel transform",
        memory=StoredItemsSpec(resolution="full"), start=RealStart(),
        objective=KernelRegressionSpec(
            kernel=RandomFeaturesSpec(), loss="cross_entropy", ridge=5e-3, real_batch=5_120
        ),
        outer=Outer(optimiser=Adam(), rate=1e-3, rates={"log_scale": 1e-2}, steps=10_000),
        retraining=Retraining(network=NetworkSpec(), steps=300, learning_rate=0.01, rows_per_class=10, decay="cosine"),
    )  # fmt: skip


def rfad_small() -> Method:
    """`rfad` with fewer and narrower networks, fewer real pictures and larger steps."""
    kernel = RandomFeaturesSpec(networks=2, filters=64)
    objective = {"kernel": kernel, "real_batch": 1_000}
    return rfad().varied("rfad-small", objective=objective, outer={"rate": 0.02, "steps": 500})


METHODS = (kip, frepo, frepo_small, rfad, rfad_small)
