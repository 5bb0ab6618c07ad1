"""One step of inner training and its reverse: what an unroll is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import log_softmax

from recall_server.networks import AbstractNetwork, Parameters


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of [N, k] logits to [N, k] target distributions."""
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1).mean()


def gradient_along(logits: Tensor, logits_dot: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of these images' share in the mean loss over `count`, along a direction of the logits [N, k].

    The gradient for the logits, its derivative, and the loss's own derivative differentiated for the targets.
    """
    probabilities = logits.softmax(dim=1)
    centred = logits_dot - (probabilities * logits_dot).sum(dim=1, keepdim=True)
    mass = targets.sum(dim=1, keepdim=True)
    return (probabilities * mass - targets) / count, probabilities * centred * mass / count, -centred / count


class AbstractInnerStep(ABC):
    """One step of SGD with momentum on the mean soft cross-entropy of a network, and the reverse of that step.

    g is the gradient of that loss for the parameters. Nothing that is given to a step is written to, and neither
    `forward` nor `reverse` is differentiable: `trainer.unroll` puts them together to what is.
    """

    network: AbstractNetwork

    @abstractmethod
    def forward(
        self,
        parameters: Parameters,
        velocity: Parameters,
        images: Tensor,
        targets: Tensor,
        *,
        rate: Tensor,
        momentum: Tensor,
    ) -> tuple[Parameters, Parameters]:
        """(parameters', velocity') for a minibatch [N, C, H, W] with target distributions [N, k]."""

    @abstractmethod
    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        """(dg/dimages^T mu, dg/dtargets^T mu, dg/dparameters^T mu)."""

    @abstractmethod
    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        """The loss itself, a scalar that is once differentiable for the parameters."""
