"""SGD with momentum, in bounded memory and with few operations per step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from recall_server.core.networks.base import AbstractNetwork, Parameters
from recall_server.core.training.cuda_graph import CudaGraphStep, CudaRecorder, Recorder
from recall_server.core.training.fused import fused_logits, trainable_parameters
from recall_server.core.training.manual_backprop import by_hand
from recall_server.core.training.retraining import Loss

MEBIBYTE = 2**20


@final
class MomentumDescent:
    """Trains one network by SGD with momentum: m <- momentum * m + g, p <- p - rate * m (paper, section 4).

    g is the gradient of the mean `loss` plus `weight_decay` times p. The squared error is half the sum over the outputs
    of an image.

    All trained parameters are views of one vector, so an update takes three operations whatever the depth of the
    network. `parameters` are the initial values; they are not modified. On CUDA, or with a `recorder`, the first steps
    run eagerly and the others replay a recorded one where possible.
    """

    def __init__(
        self,
        network: AbstractNetwork,
        parameters: Parameters,
        *,
        loss: Loss = "cross_entropy",
        weight_decay: float = 0.0,
        recorder: Recorder | None = None,
    ) -> None:
        names = trainable_parameters(network)
        self._network = network
        self._loss, self._weight_decay = loss, weight_decay
        self._by_hand = by_hand(network, parameters[names[0]].device) if loss == "cross_entropy" else None
        self._values, self._leaves = flat_leaves(parameters, names)
        self._velocity = torch.zeros_like(self._values)
        self._parameters = parameters | self._leaves
        # Tensors, because a recording would keep the values that Python numbers had when it was made.
        self._rate, self._momentum = torch.zeros(2, device=self._values.device)
        if recorder is None and self._values.is_cuda:
            recorder = CudaRecorder(self._values.device)
        self._recorded = None if recorder is None else CudaGraphStep(recorder)

    def step(self, images: Tensor, targets: Tensor, *, rate: float, momentum: float) -> Tensor:
        """Take one step on a minibatch [N, C, H, W] with target distributions [N, k]; returns the loss before it [].

        A large minibatch is processed in parts whose gradients are added, so memory use is bounded.
        """
        if self._recorded is not None:
            self._rate.fill_(rate)
            self._momentum.fill_(momentum)
            return self._recorded(self._step_on_device, images, targets)
        gradient, loss = self._gradient(images, targets)
        with torch.no_grad():
            self._velocity.mul_(momentum).add_(gradient)
            self._values.sub_(self._velocity, alpha=rate)
        return loss

    def _step_on_device(self, images: Tensor, targets: Tensor) -> Tensor:
        """The same step with rate and momentum read from the device; equal to the eager one up to rounding."""
        gradient, loss = self._gradient(images, targets)
        with torch.no_grad():
            self._velocity.mul_(self._momentum).add_(gradient)
            self._values.addcmul_(self._velocity, self._rate, value=-1)
        return loss

    def _gradient(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient [p] of the loss at the current parameters, and the loss."""
        parts = -(-len(images) // images_at_once(self._network, images.device))
        gradient, loss = torch.zeros_like(self._values), torch.zeros((), device=images.device)
        for some, their_targets in zip(torch.chunk(images, parts), torch.chunk(targets, parts), strict=True):
            share, pieces = self._share(some, their_targets, len(images))
            gradient += torch.cat([piece.flatten() for piece in pieces])
            loss += share
        if self._weight_decay:
            with torch.no_grad():
                gradient.add_(self._values, alpha=self._weight_decay)
        return gradient, loss

    def _share(self, images: Tensor, targets: Tensor, count: int) -> tuple[Tensor, Sequence[Tensor]]:
        """The sum of these images' losses divided by `count`, and its gradient for each leaf."""
        if self._by_hand is not None:
            with torch.no_grad():
                loss, found = self._by_hand.loss_and_gradient(self._parameters, images, targets, count)
            return loss, [found[name] for name in self._leaves]
        logits = fused_logits(self._network, self._parameters, images)
        if self._loss == "cross_entropy":
            loss = cross_entropy(logits, targets, reduction="sum") / count
        else:
            loss = mse_loss(logits, targets, reduction="sum") / (2 * count)
        return loss.detach(), torch.autograd.grad(loss, list(self._leaves.values()))

    def finite(self) -> bool:
        """Whether every parameter is finite."""
        return bool(self._values.isfinite().all())

    def parameters(self) -> Parameters:
        """All of the network's current parameters, detached."""
        return {name: value.detach() for name, value in self._parameters.items()}


def flat_leaves(parameters: Parameters, names: Sequence[str]) -> tuple[Tensor, Parameters]:
    """A vector of the named parameters, and views of it by name that require gradients."""
    values = torch.cat([parameters[name].flatten() for name in names])
    pieces = torch.split(values, [parameters[name].numel() for name in names])
    views = zip(names, pieces, strict=True)
    return values, {name: piece.view_as(parameters[name]).requires_grad_() for name, piece in views}


def predicted_logits(network: AbstractNetwork, parameters: Parameters, images: Tensor) -> Tensor:
    """Logits [N, classes] of images [N, C, H, W], by the same operations as training; not differentiable."""
    hand = by_hand(network, images.device)
    return fused_logits(network, parameters, images) if hand is None else hand.logits(parameters, images)


def logits_of_images(network: AbstractNetwork, parameters: Parameters, images: Tensor) -> Tensor:
    """Logits [N, classes] of images [N, C, H, W], once differentiable in the images, and computed in parts."""
    hand = by_hand(network, images.device)
    compute = network.logits if hand is None else hand.logits_of
    return torch.cat(
        [compute(parameters, part) for part in torch.split(images, images_at_once(network, images.device))]
    )


def images_at_once(network: AbstractNetwork, device: torch.device) -> int:
    """How many images to process together: few enough for the caches, enough to keep the device busy.

    The bound applies to the output of the first layer, or to the images where they are larger: 16 MiB on the CPU
    (twice as much exceeds the caches and is a tenth faster) and 1 GiB on a GPU.
    """
    first = next(iter(network.shapes().values()))  # convolution: [filters, channels, k, k]; linear: [units, inputs]
    height, width = network.downsampled_size
    outputs = first[0] * (height * width if len(first) == 4 else 1)
    numbers = max(outputs, network.channels * network.height * network.width)
    return max(1, (1024 if device.type == "cuda" else 16) * MEBIBYTE // (4 * numbers))
