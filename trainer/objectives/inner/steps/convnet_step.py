"""The inner step of a ConvNet and its reverse, written out by hand: no graph is ever built.

The reverse of a step needs (dg/dtheta)^T mu and (dg/dx)^T mu, with g the gradient of the loss for the parameters. The
first is a Hessian times mu, and both are the derivative of a whole gradient computation along the direction mu of the
parameters: forward over reverse (Pearlmutter, 1994). So every tensor x of one forward and one backward pass gets a
partner x_dot, and a block costs eight convolutions where a training step takes three. Tensor and partner lie behind
each other in one batch, so that convolutions with the same weights are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recall_server.core.networks import ConvNet, Parameters
from recall_server.core.networks.kernels import AbstractBlocks, BlockTangent
from recall_server.core.networks.kernels.convolutions import AbstractConvolution
from recall_server.core.training.descent import images_at_once
from recall_server.core.training.manual_backprop import BIAS, WEIGHT, ConvNetByHand, norm_of, weight_name
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState, gradient_along


@final
@dataclass(frozen=True)
class ConvNetStep(AbstractInnerStep):
    """One step on a ConvNet, with the operations of `blocks`. Large minibatches go through in parts that add up.

    A part has as many images as keep memory low (`images_at_once`), or `multiple` times as many.
    """

    network: ConvNet
    blocks: AbstractBlocks
    multiple: int = 1

    @property
    def by_hand(self) -> ConvNetByHand:
        return ConvNetByHand(self.network, self.blocks)

    def forward(self, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        with torch.no_grad():
            _, gradient = self.loss_and_gradient(state.parameters, images, targets)
            names = list(state.parameters)
            velocities = torch._foreach_mul([state.velocity[name] for name in names], state.momentum)
            torch._foreach_add_(velocities, [gradient[name] for name in names])
            moves = torch._foreach_mul(velocities, state.rate)
            values = torch._foreach_sub([state.parameters[name] for name in names], moves)
        return state.at(dict(zip(names, values, strict=True)), dict(zip(names, velocities, strict=True)))

    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        with torch.no_grad():
            parts = [
                _Reverse(self, parameters, mu, len(images)).run(some, theirs)
                for some, theirs in self._parts(images, targets)
            ]
            for_images, for_targets, products = zip(*parts, strict=True)
            return torch.cat(for_images), torch.cat(for_targets), _sum(products, parameters)

    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        return loss_of(self.loss_and_gradient, parameters, images, targets)

    def loss_and_gradient(self, parameters: Parameters, images: Tensor, targets: Tensor) -> tuple[Tensor, Parameters]:
        """The loss [] and its gradient for the parameters."""
        parts = [
            self.by_hand.loss_and_gradient(parameters, some, theirs, len(images))
            for some, theirs in self._parts(images, targets)
        ]
        losses, gradients = zip(*parts, strict=True)
        return torch.stack(losses).sum(), _sum(gradients, parameters)

    def _parts(self, images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        parts = -(-len(images) // (self.multiple * images_at_once(self.network, images.device)))
        return zip(torch.chunk(images, parts), torch.chunk(targets, parts), strict=True)


@final
class _Reverse:
    """The reverse of one step for some of its `count` images, along `mu`."""

    def __init__(self, step: ConvNetStep, parameters: Parameters, mu: Parameters, count: int) -> None:
        self.step, self.parameters, self.mu, self.count = step, parameters, mu, count
        self.layers: list[tuple[AbstractConvolution, BlockTangent]] = []
        self.product: Parameters = {}

    def run(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Parameters]:
        """(dg/dimages^T mu, dg/dtargets^T mu, dg/dparameters^T mu without what is zero)."""
        y, y_dot = self._forward(images)
        features, features_dot = (part.flatten(1).to(images.dtype) for part in (y, y_dot))
        gf, gf_dot, for_targets = self._classifier(features, features_dot, targets)
        for_images = self._backward(gf.view(y.shape).to(y.dtype), gf_dot.view(y.shape).to(y.dtype))
        return self.step.network.unprepare(for_images).to(images.dtype), for_targets, self.product

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """y and y_dot after the last block. The images themselves stand still: their partner is zero."""
        both = self.step.network.prepare(images)
        count = len(images)
        for block in range(self.step.network.depth):
            weight, weight_dot = self.parameters[weight_name(block)], self.mu[weight_name(block)]
            convolution = self.step.by_hand.convolution(both)
            if block:
                a, a_dot = convolution.apply(weight).chunk(2)
                more = convolution.first(count).apply(weight_dot)
            else:
                a, a_dot, more = convolution.apply(weight), convolution.apply(weight_dot), None
            both, value = self.step.blocks.forward_tangent(
                a, a_dot, more, norm_of(self.parameters, block), norm_of(self.mu, block)
            )
            self.layers.append((convolution, value))
        y, y_dot = both.chunk(2)
        return y, y_dot

    def _classifier(self, features: Tensor, features_dot: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient for the features, its derivative, and dg/dtargets^T mu."""
        weight, weight_dot = self.parameters[WEIGHT], self.mu[WEIGHT]
        logits = features @ weight.T + self.parameters[BIAS]
        logits_dot = features_dot @ weight.T + features @ weight_dot.T + self.mu[BIAS]
        gl, gl_dot, for_targets = gradient_along(logits, logits_dot, targets, self.count)
        self.product[WEIGHT] = gl_dot.T @ features + gl.T @ features_dot
        self.product[BIAS] = gl_dot.sum(dim=0)
        return gl @ weight, gl_dot @ weight + gl @ weight_dot, for_targets

    def _backward(self, gy: Tensor, gy_dot: Tensor) -> Tensor:
        more, count = None, len(gy)
        for block in reversed(range(self.step.network.depth)):
            weight, weight_dot = self.parameters[weight_name(block)], self.mu[weight_name(block)]
            convolution, value = self.layers[block]
            both, for_scale, for_shift = self.step.blocks.backward_tangent(value, gy, gy_dot, more)
            self.product |= {f"block{block}.norm.scale": for_scale, f"block{block}.norm.shift": for_shift}
            ga_dot, ga = both.chunk(2)
            if block:  # the batch holds (y, y_dot) and the gradients (ga_dot, ga): pairs that belong together
                self.product[weight_name(block)] = convolution.for_weight(both, weight)
                gy_dot, gy = convolution.for_input(both, weight).chunk(2)
                more = convolution.first(count).for_input(ga, weight_dot)
            else:
                self.product[weight_name(block)] = convolution.for_weight(ga_dot, weight)
        return convolution.for_input(ga_dot, weight) + convolution.for_input(ga, weight_dot)


LossAndGradient = Callable[[Parameters, Tensor, Tensor], tuple[Tensor, Parameters]]


def loss_of(function: LossAndGradient, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
    """The loss that `function` gives with its gradient for the parameters, once differentiable for these alone."""
    loss: Tensor = _Loss.apply(function, tuple(parameters), images, targets, *parameters.values())
    return loss


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917, PLR0913  (autograd passes every argument by position)
        ctx: Any, function: LossAndGradient, names: tuple[str, ...], images: Tensor, targets: Tensor, *values: Tensor
    ) -> Tensor:
        if any(ctx.needs_input_grad[2:4]):
            raise NotImplementedError("evaluate is differentiable for the parameters, not for images or targets")
        loss, gradient = function(dict(zip(names, values, strict=True)), images, targets)
        ctx.save_for_backward(*(gradient[name] for name in names))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, None, *(outer[0] * gradient for gradient in ctx.saved_tensors)


def _sum(parts: Sequence[Parameters], like: Parameters) -> Parameters:
    """Parts that add up, and zeros for what they lack: the biases before a norm, which have no gradient."""
    total = dict(parts[0])
    for part in parts[1:]:
        total = {name: value + part[name] for name, value in total.items()}
    return {name: total[name] if name in total else torch.zeros_like(value) for name, value in like.items()}
