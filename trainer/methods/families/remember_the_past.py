"""The paper's method, and this project's methods for its memory of bases and addressing matrices."""

from __future__ import annotations

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.method import Method
from trainer.methods.specs.memories import AddressedBasesSpec, StoredItemsSpec
from trainer.methods.specs.objectives.unrolled import UnrolledSpec
from trainer.methods.specs.outer import Adam, Outer, Sgd
from trainer.methods.specs.preprocessings import ProjectedSpec, StandardiseSpec, ZcaSpec
from trainer.methods.specs.queries import PictureQueriesSpec
from trainer.methods.specs.starts import NoiseStart, PrincipalStart, RealStart

PAPER = "Deng and Russakovsky, Remember the Past (2022)"


def rtp() -> Method:
    """The paper's method: bases and addressing from noise, differentiated through all 150 steps of training."""
    return Method(
        name="rtp", citation=f"{PAPER}, section 4, with appendix A.1 and the authors' code",
        memory=AddressedBasesSpec(), start=NoiseStart(), preprocessing=ZcaSpec(),
        objective=UnrolledSpec(
            steps=150, window=150, rate=0.01, rows_per_class=32, real_batch=640, augmentation="flip+rotate"
        ),
        outer=Outer(optimiser=Sgd(), rate=0.1, clip=2.0, steps=50_000),
        retraining=Retraining(network=NetworkSpec(), steps=150, learning_rate=0.01, rows_per_class=32), schedule="own",
    )  # fmt: skip


def bptt() -> Method:
    """The paper's method without bases: one stored image per recalled image."""
    return rtp().varied(
        "bptt", citation=f"{PAPER}, Table 2, row BPTT", memory=StoredItemsSpec(resolution="full"),
        objective={"rows_per_class": 1},
    )  # fmt: skip


def bptt_small() -> Method:
    """`bptt` from random real pictures, with shorter trainings of narrower networks, fewer real pictures, and Adam."""
    return bptt().varied(
        "bptt-small", start=RealStart(), preprocessing=StandardiseSpec(),
        objective={"network": NetworkSpec(filters=64), "steps": 40, "window": 40, "rate": 0.02, "real_batch": 256,
                   "augmentation": "none"},
        outer={"optimiser": Adam(), "rate": 0.02, "decay": "cosine", "steps": 1_000},
        retraining={"steps": 40, "learning_rate": 0.02, "rows_per_class": 1},
    )  # fmt: skip


def window() -> Method:
    """Bases from the leading eigenvectors, through random windows of training."""
    return Method(
        name="window", citation="RaT-BPTT (Feng et al., 2024) on the bases of Deng and Russakovsky (2022)",
        memory=AddressedBasesSpec(), start=PrincipalStart(),
        objective=UnrolledSpec(network=NetworkSpec(filters=64), steps=60, window=20, rate=0.02, rows_per_class=3),
        outer=Outer(optimiser=Adam(), rate=0.02, decay="cosine", clip=2.0, steps=2_000),
        retraining=Retraining(network=NetworkSpec(), steps=100, learning_rate=0.02, rows_per_class=3, decay="cosine"),
    )  # fmt: skip


def principal() -> Method:
    """No gradient step: leading eigenvectors as bases, medoids of each class as coefficients."""
    citation = "no paper: principal components, the start of the method window"
    return window().varied("principal", citation=citation, preprocessing=ProjectedSpec(), outer={"steps": 0})


def image_addressing() -> Method:
    """A memory addressed by pictures, trained jointly with its query encoder."""
    # Chosen on validation episodes: half the width is as good with two classes, and three times as fast. Larger outer
    # steps would first lose the accuracy of the start (docs/tried.md).
    return window().varied(
        "image-addressing", citation=f"{PAPER}, section 5.3.2 and appendix B.3", queries=PictureQueriesSpec(),
        objective={"classes_per_step": 5, "rows_per_class": 6, "steps": 40},
        outer={"rate": 0.005, "rates": {"encoder": 1e-3}},
        retraining={"network": NetworkSpec(filters=64), "rows_per_class": 6, "steps": 150},
    )  # fmt: skip


def image_addressing_warm() -> Method:
    """`image_addressing` with networks that start from the layers of the encoder, which is pretrained on all classes.

    Trainings are short, because networks learn little more than a last layer.
    """
    network = NetworkSpec(filters=32)
    return image_addressing().varied(
        "image-addressing-warm",
        queries=PictureQueriesSpec(encoder=network, size=64, pretraining_steps=1_200),
        objective={"network": network, "rate": 0.01, "steps": 20, "window": 10},
        outer={"rates": {"encoder": 3e-4}},
        retraining={"network": network, "initial": "encoder", "learning_rate": 0.005, "steps": 50},
    )  # fmt: skip


METHODS = (window, rtp, bptt, bptt_small, principal, image_addressing, image_addressing_warm)
