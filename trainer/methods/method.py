"""The named points of the grid memory x objective: short compositions with a citation, no hidden ladders.

A method is plain data. Every field can be overridden on the command line (`--set window=30`), and every field ends up
in the bundle's manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recall_server.core.memory import Storage
from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from trainer.methods.overrides import overridden
from trainer.objectives.inner.precision import Precision
from trainer.starts.random import Initialisation

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class Method(BaseModel):
    """One way to distill: memory, start, inner training (the objective), outer training, and how to retrain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory: Literal["addressed_bases", "stored_items"] = "addressed_bases"
    resolution: Literal["half", "full"] = "half"  # of what is stored
    start: Literal["principal", "noise", "bundle"] = "principal"
    initialisation: Initialisation = "xavier"  # of a start from noise
    coefficients: Literal["typical", "centres"] = "typical"  # of a start from principal: pictures or averages
    preprocessing: Literal["standardise", "zca", "spectral", "projected"] = "standardise"
    ridge: Annotated[float, Field(ge=0)] = 0.1  # of zca and spectral, in units of the mean eigenvalue
    augmentation: Literal["none", "flip", "flip+rotate"] = "none"
    # inner training
    network: NetworkSpec = NetworkSpec()
    steps: Count
    window: Count
    rate: Rate
    learn_rate: bool = False  # the inner rate is learned along with the memory, and is what the bundle asks for
    inner_optimiser: Literal["sgd", "adam"] = "sgd"
    targets: Literal["hard", "soft"] = "hard"  # soft: the targets of recalled images are learned along with these
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    momentum_gradient: Literal["full", "forward"] = "full"  # forward: momentum acts, but is not differentiated
    rows_per_class: Count
    precision: Precision = "float32"
    eager: bool = False  # do not compile the steps: for short runs, where compiling takes longer than it saves
    # outer training
    classes_per_step: Annotated[int, Field(ge=0)] = 0  # 0: all of them
    networks: Count = 1  # of an outer step, each with real pictures of its own; their gradients are averaged
    real_batch: Count
    optimiser: Literal["adam", "sgd"]
    outer_rate: Rate
    outer_decay: Literal["constant", "cosine"] = "constant"
    clip: Annotated[float, Field(ge=0)] = 0.0  # norm of the outer gradient; 0: not clipped
    outer_steps: Annotated[int, Field(ge=0)]
    # what a file keeps of the numbers, and the share of the outer steps, the last, that recall through what it keeps
    storage: Storage = "float32"
    storage_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    # addressing by pictures
    queries: Literal["labels", "images"] = "labels"
    shots: Count = 5
    encoder: NetworkSpec = NetworkSpec(filters=32)
    query_size: Count = 32
    encoder_rate: Rate = 1e-3
    encoder_steps: Annotated[int, Field(ge=0)] = 0  # of a classifier that the encoder begins as; 0: it begins at random
    # what the bundle asks its users to do; a run that goes on from a bundle asks what that one asked, or "own" this
    retraining: Retraining
    schedule: Literal["start", "own"] = "start"

    @model_validator(mode="after")
    def _check(self) -> Method:
        if self.window > self.steps:
            raise ValueError(f"a window of {self.window} is longer than the longest training of {self.steps} steps")
        if self.classes_per_step == 1:
            raise ValueError("one class per step leaves nothing to tell apart; use 0 for all, or two or more")
        if self.memory == "stored_items" and (self.start == "principal" or self.queries == "images"):
            raise ValueError("a memory of stored items starts from noise or a bundle and is addressed by labels only")
        changes = bool(self.outer_steps) or self.start != "principal" or self.queries == "images"
        if self.preprocessing == "projected" and changes:
            raise ValueError(
                "pictures are projected only onto bases that no step changes; use preprocessing=standardise"
            )
        if self.start == "bundle" and self.queries == "images" and self.encoder_steps:
            raise ValueError("the encoder of a bundle has learned already; use encoder_steps=0 to go on from it")
        self._check_beginning()
        return self

    def _check_beginning(self) -> None:
        if self.retraining.initial == "random":
            return
        if self.queries == "labels":
            raise ValueError("networks begin with an encoder only where there is one; use queries=images")
        if not self.network == self.retraining.network == self.encoder:
            raise ValueError(
                f"networks that begin with the encoder must be like it: network={self.network}, "
                f"retraining.network={self.retraining.network} and encoder={self.encoder} must be the same"
            )

    @model_validator(mode="after")
    def _check_variants(self) -> Method:
        if self.resolution == "full" and self.start == "principal":
            raise ValueError("principal finds bases at half resolution; start from noise to store full resolution")
        if self.inner_optimiser == "adam" and self.momentum_gradient == "forward":
            raise ValueError("Adam has no momentum term to leave undifferentiated; use inner_optimiser=sgd")
        if (self.learn_rate or self.targets == "soft") and self.queries == "images":
            what = "the inner rate is" if self.learn_rate else "soft targets are"
            raise ValueError(f"{what} learned with a memory addressed by labels, not by pictures")
        if self.targets == "soft" and not self.outer_steps:
            raise ValueError("soft targets are learned by outer steps; a method without any has hard ones")
        return self


PAPER_RETRAINING = Retraining(network=NetworkSpec(), steps=150, learning_rate=0.01, rows_per_class=32)


def rtp() -> Method:
    """Deng and Russakovsky, "Remember the Past" (2022), section 4 with appendix A.1 and the authors' code."""
    return Method(
        name="rtp", start="noise", preprocessing="zca", augmentation="flip+rotate", steps=150, window=150, rate=0.01,
        rows_per_class=32, real_batch=640, optimiser="sgd", outer_rate=0.1, clip=2.0, outer_steps=50_000,
        retraining=PAPER_RETRAINING, schedule="own",
    )  # fmt: skip


def bptt() -> Method:
    """The same without bases: one stored image per recalled image (paper, Table 2, row BPTT)."""
    update = {"name": "bptt", "memory": "stored_items", "resolution": "full", "rows_per_class": 1}
    return rtp().model_copy(update=update)


def window() -> Method:
    """Addressed bases trained through random windows (RaT-BPTT, Feng et al., 2024) from the leading eigenvectors."""
    return Method(
        name="window", network=NetworkSpec(filters=64), steps=60, window=20, rate=0.02, rows_per_class=3,
        real_batch=256, optimiser="adam", outer_rate=0.02, outer_decay="cosine", clip=2.0, outer_steps=2_000,
        retraining=Retraining(
            network=NetworkSpec(), steps=100, learning_rate=0.02, rows_per_class=3, decay="cosine"
        ),
    )  # fmt: skip


def principal() -> Method:
    """No gradient step at all: leading eigenvectors as bases, typical pictures of each class as coefficients."""
    return window().model_copy(update={"name": "principal", "outer_steps": 0, "preprocessing": "projected"})


def image_addressing() -> Method:
    """A memory addressed by pictures, trained jointly with its query encoder (paper, 5.3.2 and B.3)."""
    method = window()
    return method.model_copy(
        update={
            "name": "image-addressing",
            # Chosen on validation episodes: half the width is as good with two classes, and three times as fast.
            "retraining": method.retraining.model_copy(
                update={"network": NetworkSpec(filters=64), "rows_per_class": 6, "steps": 150}
            ),
            "queries": "images",
            "outer_rate": 0.005,  # the start is better than chance, and larger steps lose it first (docs/tried.md)
            "classes_per_step": 5,
            "rows_per_class": 6,
            "steps": 40,
        }
    )


def image_addressing_warm() -> Method:
    """The same where every network begins with the layers that the encoder has learned, and so goes further in less.

    The encoder begins as a classifier of all classes. Trainings are short: they have a last layer to learn.
    """
    method, network = image_addressing(), NetworkSpec(filters=32)
    return method.model_copy(
        update={
            "name": "image-addressing-warm",
            "network": network,
            "encoder": network,
            "retraining": method.retraining.model_copy(
                update={"network": network, "initial": "encoder", "learning_rate": 0.005, "steps": 50}
            ),
            "query_size": 64,
            "encoder_steps": 1_200,
            "encoder_rate": 3e-4,
            "rate": 0.01,
            "steps": 20,
            "window": 10,
        }
    )


METHODS: dict[str, Callable[[], Method]] = {
    "window": window,
    "rtp": rtp,
    "bptt": bptt,
    "principal": principal,
    "image-addressing": image_addressing,
    "image-addressing-warm": image_addressing_warm,
}


def named(name: str) -> Method:
    """A method by its name; ValueError that lists the known ones."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(METHODS)}")
    return METHODS[name]()


def compose(method: str | Method, overrides: Iterable[str] = ()) -> Method:
    """A method, or one by name, with `field=value` overrides; ValueError with one sentence on what does not fit."""
    start = named(method) if isinstance(method, str) else method
    return overridden(Method, dict(start), overrides, fixed=("name",))  # all fields: a dump leaves some unsaid
