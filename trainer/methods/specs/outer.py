"""The outer optimiser, which updates the learned tensors of memory, queries and objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor

from recall_server.core.training import updates
from recall_server.core.training.retraining import cosine
from trainer.methods.specs.spec import Count, Spec, member_of

FINAL_RATE = 0.05  # the final share of the rate after the cosine


class OptimiserSpec(Spec):
    """How a gradient changes a learned tensor."""

    noun: ClassVar[str] = "outer optimiser"

    @abstractmethod
    def update(self, tensor: Tensor, gradient: Tensor, state: updates.State, rate: float) -> None:
        """Change the tensor in place, and its state, which begins empty."""


class Adam(OptimiserSpec):
    """Adam with the usual decays."""

    kind: Literal["adam"] = "adam"

    def update(self, tensor: Tensor, gradient: Tensor, state: updates.State, rate: float) -> None:
        updates.adam(tensor, gradient, state, rate=rate)


class Sgd(OptimiserSpec):
    """SGD with momentum; 0.5 is the paper's."""

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5

    def update(self, tensor: Tensor, gradient: Tensor, state: updates.State, rate: float) -> None:
        updates.sgd(tensor, gradient, state, rate=rate, momentum=self.momentum)


class Outer(BaseModel):
    """`steps` outer steps (of a stream: for each minibatch) at `rate`, or at another for tensors that `rates` names.

    A name in `rates` stands for the tensor of that name and for all tensors whose names start with it and a dot
    (`encoder`). Rates decay by a cosine over the run. If its length is unknown, they fall to a half after `settle`
    steps and to a third after twice as many (0: never). `clip` limits the norm of the gradient (0: no limit). Each step
    averages `draws` losses with independent random choices. The last `storage_share` of the steps recalls with the
    rounding of the file. With `average`, the run keeps running averages of the tensors with this decay (0: the last
    tensors).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimiser: Annotated[OptimiserSpec, member_of(OptimiserSpec)] = Adam()
    rate: PositiveFloat = 0.02
    rates: dict[str, PositiveFloat] = {}
    decay: Literal["constant", "cosine"] = "constant"
    settle: NonNegativeInt = 0
    clip: NonNegativeFloat = 0.0
    steps: NonNegativeInt = 0
    draws: Count = 1
    storage_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def rate_of(self, name: str) -> float:
        """The rate of the tensor with this name."""
        return self.rates.get(name, self.rates.get(name.partition(".")[0], self.rate))

    def rates_of(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """The rate of each tensor, before any decay. Raises ValueError for a rate of an unknown tensor."""
        names = {*tensors, *(name.partition(".")[0] for name in tensors)}
        unknown = sorted(self.rates.keys() - names)
        if unknown:
            raise ValueError(
                f"there is no learned tensor {unknown[0]!r} to have a rate; there are {', '.join(tensors)}"
            )
        return {name: self.rate_of(name) for name in tensors}

    def rate_after(self, rate: float, steps: int, done: float) -> float:
        """The decayed rate after `steps` steps, when a fraction `done` of the run is over."""
        if self.decay == "cosine":
            rate *= FINAL_RATE + (1 - FINAL_RATE) * cosine(min(1.0, done))
        return rate / (1 + steps / self.settle) if self.settle else rate
