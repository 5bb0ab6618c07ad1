"""The schedule for training a fresh classifier on recalled images; every bundle's manifest contains one."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.training.augmentation import AugmentationName

Loss = Literal["cross_entropy", "squared_error"]
Rate = Annotated[float, Field(gt=0, le=10)]
# The usual learning rate for each loss, with momentum 0.9. By 0.01 the squared error of a ConvNet of 128 filters
# diverges, on real pictures as on distilled ones.
USUAL_RATES: Final[dict[Loss, float]] = {"cross_entropy": 0.01, "squared_error": 0.003}


class Retraining(BaseModel):
    """SGD with momentum for `steps` steps, each on a minibatch of `rows_per_class` recalled rows per query.

    `weight_decay` times the parameters is added to the gradient. The rate is constant, falls to zero as a cosine, or
    falls to a tenth after half of the steps. `loss` compares logits with targets: the squared error is for unbounded
    ones.

    In the order "sequence" step t takes rows t * n to (t + 1) * n - 1 of every query, n being `rows_per_class`, and
    begins again after the last row; otherwise rows are drawn. `rates` are the rates of the single steps, used again
    after the last, in place of `learning_rate`: some memories are distilled for steps of their own sizes.

    A memory is distilled for one schedule, so the schedule is part of the memory and not a preference. The upper
    limits stop a hostile manifest from demanding days of work; they are far above any schedule in the literature.
    With `initial` "encoder", which needs a memory that is addressed by pictures, networks start from the layers of the
    query encoder, all but the last (`core/encoders/weights.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: NetworkSpec
    steps: Annotated[int, Field(ge=1, le=100_000)]
    learning_rate: Rate
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rows_per_class: Annotated[int, Field(ge=1, le=100_000)]
    weight_decay: Annotated[float, Field(ge=0, le=1, exclude_if=lambda decay: decay == 0)] = 0.0
    decay: Literal["constant", "cosine", "tenth"] = "constant"
    augmentation: AugmentationName = "none"
    loss: Loss = "cross_entropy"
    order: Annotated[Literal["random", "sequence"], Field(exclude_if=lambda order: order == "random")] = "random"
    rates: Annotated[tuple[Rate, ...], Field(max_length=1000, exclude_if=lambda rates: not rates)] = ()
    initial: Literal["random", "encoder"] = "random"


def cosine(share: float) -> float:
    """The factor of a cosine decay after this share of a run: 1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))


def initial_parameters(
    network: AbstractNetwork, retraining: Retraining, pretrained: Parameters | None, generator: torch.Generator
) -> Parameters:
    """The initial parameters of a network of this schedule: random, or from pretrained layers.

    Raises ValueError if pretrained layers are missing, are not asked for, or do not match the network.
    """
    if pretrained is None and retraining.initial != "random":
        raise ValueError("this schedule starts from the encoder's layers, but no pretrained layers were given")
    if pretrained is not None and retraining.initial == "random":
        raise ValueError("this schedule starts from random weights, but pretrained layers were given")
    return network.initialise(generator) if pretrained is None else network.initialise_from(pretrained)


def learning_rate(retraining: Retraining, done: int) -> float:
    """The learning rate of the step after `done` steps."""
    rate = retraining.rates[done % len(retraining.rates)] if retraining.rates else retraining.learning_rate
    if retraining.decay == "cosine":
        return rate * cosine(done / retraining.steps)
    if retraining.decay == "tenth" and 2 * done >= retraining.steps:
        return rate / 10
    return rate
