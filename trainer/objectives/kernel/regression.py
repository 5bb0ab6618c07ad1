"""Kernel ridge regression from recalled items to real ones (KIP, Nguyen et al., 2021; FRePo; RFAD).

With the kernel K of the support S of recalled items and targets Y, the predictions for real items T are

    K(T, S) (K(S, S) + r tr(K(S, S)) / n I)^-1 Y

and their loss on the real targets reaches the items, and the targets where these are learned, through both kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.training.augmentation import augment
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.kernel.base import AbstractKernel, Products
from trainer.objectives.kernel.trained_pool import support_of
from trainer.objectives.queries import leaf
from trainer.objectives.sampler import OuterBatch, Sampler

RegressionLoss = Literal["squared_error", "cross_entropy"]
LOG_SCALE = "log_scale"  # the learned tensor by which predictions become logits


@final
@dataclass(frozen=True, eq=False)
class KernelRegression(AbstractObjective):
    """The loss of predictions for about `real_batch` real items, with a `ridge` relative to the mean of the diagonal.

    The squared error is half the sum over classes; with a `margin` the learned targets are pushed to keep the largest
    number 1 / C above the second (FRePo). For the cross-entropy, predictions are multiplied by a learned scale (RFAD).
    """

    kernel: AbstractKernel
    ridge: float
    real_batch: int
    kind: RegressionLoss = "squared_error"
    margin: bool = False
    augmentation: tuple[str, ...] = ()
    log_scale: Tensor | None = None

    def learned(self) -> dict[str, Tensor]:
        return {} if self.log_scale is None else {LOG_SCALE: self.log_scale}

    def begin(self, generator: torch.Generator) -> State:
        return self.kernel.begin(generator)

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        return self.kernel.advance(sampler, state, generator)

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.draw_batch(self.real_batch, generator)
        return self.score(batch, state, generator)

    def score(self, batch: OuterBatch, state: State, generator: torch.Generator) -> Tensor:
        """The loss of the predictions for the real items of a batch."""
        items, targets = support_of(batch.recalled)
        items = augment(items, self.augmentation, generator)
        predicted = predictions(self.kernel.products(items, batch.items, state, generator), targets, self.ridge)
        if self.kind == "cross_entropy":
            scale = torch.ones(()) if self.log_scale is None else self.log_scale.exp()
            return cross_entropy(scale * predicted, batch.targets)
        wanted = batch.targets - batch.targets.mean(dim=1, keepdim=True)
        loss = (predicted - wanted).square().sum(dim=1).mean() / 2
        return loss - _margins(targets).mean() if self.margin else loss


def predictions(products: Products, targets: Tensor, ridge: float) -> Tensor:
    """Of m real items, [m, k], by ridge regression on a support with targets [n, k]."""
    support = products.support
    jitter = ridge * support.diagonal().mean()
    regularised = support + jitter * torch.eye(len(support), dtype=support.dtype, device=support.device)
    weights = torch.cholesky_solve(targets.to(support.dtype), torch.linalg.cholesky(regularised))
    return products.cross @ weights.to(products.cross.dtype)


def initial_scale(scale: float, device: torch.device) -> Tensor:
    """The logarithm of a scale, to be optimised."""
    return leaf(torch.tensor(scale, device=device).log())


def _margins(targets: Tensor) -> Tensor:
    """By how much the largest number of each row exceeds the second, 1 / k at most."""
    largest = targets.topk(2, dim=1).values
    return (largest[:, 0] - largest[:, 1]).clamp(max=1 / targets.shape[1])
