"""The linear head that a memory of features stores: softmax regression on all features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.classifier.class_statistics import LinearHead

PREFIX: Final = "head."  # of the settings in a manifest


class HeadSettings(BaseModel):
    """How a head is trained: with a `ridge`, by default the best of some on validation features, and a `balance`.

    A balance of 1 trains for classes that are equally frequent, whatever the training pictures are (balanced softmax,
    Ren et al., NeurIPS 2020), and 0 for classes as frequent as they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ridge: Annotated[float, Field(gt=0)] | None = None
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0

    def recorded(self) -> dict[str, float]:
        """The settings that are not the default, for a manifest."""
        return {f"{PREFIX}{name}": value for name, value in self if value != type(self).model_fields[name].default}

    @classmethod
    def of(cls, recorded: Mapping[str, object]) -> Self:
        """The settings that a manifest records, among others. Raises ValueError for unknown ones."""
        own = {name: value for name, value in recorded.items() if name.startswith(PREFIX)}
        return cls.model_validate({name.removeprefix(PREFIX): value for name, value in own.items()})


CHOSEN: Final = HeadSettings()  # the ridge is chosen, and classes are as frequent as they are


def softmax_head(  # noqa: PLR0913
    features: Tensor,
    labels: Tensor,
    classes: int,
    ridge: float,
    *,
    steps: int = 60,
    bias: bool = True,
    balance: float = 0.0,
) -> LinearHead:
    """Softmax regression on features [N, D] with ridge / 2 |W|^2 in the mean loss, by L-BFGS.

    In training, `balance` times the logarithms of the classes' frequencies are added to the logits.
    """
    prior = balance * torch.bincount(labels, minlength=classes).clamp(min=1).to(features).log()
    weights = features.new_zeros(classes, features.shape[1]).requires_grad_()
    shift = features.new_zeros(classes).requires_grad_(bias)

    def loss() -> Tensor:
        return cross_entropy(features @ weights.T + shift + prior, labels) + ridge / 2 * weights.square().sum()

    minimise(loss, [weights, shift] if bias else [weights], steps)
    return LinearHead(weights.detach(), shift.detach())


def minimise(loss: Callable[[], Tensor], tensors: Sequence[Tensor], steps: int) -> None:
    """Changes `tensors` to lower `loss`, which is smooth and computed on all data, by so many steps of L-BFGS."""
    optimiser = torch.optim.LBFGS(tensors, max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
