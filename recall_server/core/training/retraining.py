"""The schedule by which a fresh classifier is trained from recalled images; every bundle's manifest carries one."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from recall_server.core.networks.spec import NetworkSpec

Loss = Literal["cross_entropy", "squared_error"]


class Retraining(BaseModel):
    """SGD with momentum on minibatches of `rows_per_class` recalled rows of every query, for `steps` steps.

    `loss` compares logits with targets: `squared_error` is for unbounded ones.

    A memory is distilled for the schedule that follows it, so this is part of the memory and not a preference. The
    upper limits keep a hostile manifest from asking for days of work; no schedule of the literature comes near them.
    Networks begin at random; of a memory that pictures address they may begin with the layers that its query encoder
    has learned, all but the last (`encoder_file.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    network: NetworkSpec
    steps: Annotated[int, Field(ge=1, le=100_000)]
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rows_per_class: Annotated[int, Field(ge=1, le=100_000)]
    decay: Literal["constant", "cosine"] = "constant"
    augmentation: Literal["none", "flip", "flip+rotate"] = "none"
    loss: Loss = "cross_entropy"
    initial: Literal["random", "encoder"] = "random"


def cosine(share: float) -> float:
    """What a rate that falls by half a cosine has left after this share of a run: 1 at 0, nothing at 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
