"""The linear head that a memory of features stores: softmax regression on all features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.training.heads.lbfgs import Curvature, minimise
from recall_server.core.training.heads.loss import head_loss

PREFIX: Final = "head."  # of the settings in a manifest
STEPS: Final = 60  # of L-BFGS, at most
TOLERANCE: Final = 2e-4  # of the loss, in a step: validation accuracies stay within 0.1 points after it
CURVATURE: Final = 0.25  # above the mean of p (1 - p), where p are probabilities; the bound is 1/2 (Böhning, 1992)
SEEN: Final = 4096  # features that the curvature is estimated from


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
    bias: bool = True,
    balance: float = 0.0,
    start: LinearHead | None = None,
) -> LinearHead:
    """Softmax regression on features [N, D] with ridge / 2 |W|^2 in the mean loss, by L-BFGS, from `start` or zero on.

    In training, `balance` times the logarithms of the classes' frequencies are added to the logits.
    """
    prior = balance * torch.bincount(labels, minlength=classes).clamp(min=1).to(features).log()
    weights = features.new_zeros(classes, features.shape[1]) if start is None else start.weights
    shift = features.new_zeros(classes) if start is None else start.bias

    def loss(weights: Tensor, shift: Tensor = shift) -> Tensor:
        return head_loss(features @ weights.T + shift + prior, labels, (ridge, weights))

    begin = [weights, shift] if bias else [weights]
    found = minimise(loss, begin, STEPS, tolerance=TOLERANCE, inverse=_curvature(features, ridge))
    return LinearHead(found[0], found[1] if bias else shift)


def _curvature(features: Tensor, ridge: float) -> Curvature:
    """The inverse of about the second derivative of the loss: the features' moments, and the ridge."""
    some = features[:: max(1, len(features) // SEEN)]
    hessian = CURVATURE * some.T @ some / len(some)
    hessian.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(hessian)

    def inverse(weights: Tensor, *shift: Tensor) -> list[Tensor]:
        return [torch.cholesky_solve(weights.T, factor).T, *(each / CURVATURE for each in shift)]

    return inverse
