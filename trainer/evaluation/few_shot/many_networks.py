"""Trains many fresh networks at once, each on its own images, with the results of `FreshClassifier`.

A network of this size needs about a hundred short GPU kernels per step, which take longer to launch than to run. Here
every kernel works for G networks. With images laid out as [G, C, N, H, W], the convolutions of all networks are one
batched matrix product of filters [O, C * 9] and unfolded images [C * 9, N * H * W], and an instance norm is a layer
norm over the last two axes. Grouped convolutions would be an alternative, but their gradients are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, layer_norm, log_softmax, pad

from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.networks.base import CLASSIFIER
from recall_server.core.networks.blueprint import ConvBlock, blueprint
from recall_server.core.networks.kernels import EPSILON
from recall_server.core.training.augmentation import AUGMENTATIONS, OPERATIONS
from recall_server.core.training.descent import flat_leaves, images_at_once
from recall_server.core.training.fused import trainable_parameters
from recall_server.core.training.minibatches import rows_in_sequence
from recall_server.core.training.retraining import Retraining, initial_parameters, learning_rate
from recall_server.errors import NotFitted, TrainingFailed


def can_train_together(network: AbstractNetwork, retraining: Retraining) -> bool:
    """Whether the network is a chain of convolution blocks and one linear layer, such as ConvNet and AlexNet.

    The loss must be the cross-entropy, and no choice of an augmentation may be one for a whole minibatch.
    """
    alone = all("|" not in kind for kind in AUGMENTATIONS[retraining.augmentation])
    chain = all(isinstance(block, ConvBlock) for block in blueprint(network).blocks)
    return alone and chain and retraining.loss == "cross_entropy"


@final
class ManyNetworks:
    """G networks of the same architecture, one per seed, on one device.

    `network.convolution_dtype` is the dtype of convolutions; everything else is float32. Raises ValueError for an
    architecture or a schedule that `can_train_together` refuses, and for no seeds.
    """

    def __init__(
        self, network: AbstractNetwork, retraining: Retraining, seeds: Sequence[int], *, device: torch.device
    ) -> None:
        if not can_train_together(network, retraining):
            raise ValueError(f"{type(network).__name__} cannot be trained so by this schedule; train them one by one")
        if not seeds:
            raise ValueError("at least one seed is needed")
        self.network, self.retraining, self.seeds, self.device = network, retraining, tuple(seeds), device
        self._parameters: Parameters | None = None

    def fit(self, images: Tensor, targets: Tensor, *, pretrained: Parameters | None = None) -> Self:
        """Train each network on its own images [G, q, r, C, H, W] in model space, all with the targets [q, k].

        `pretrained` are the initial layers of all networks, if the schedule uses any. Up to rounding, network i equals
        a FreshClassifier with seed i that was fitted to images[i]. Raises ValueError for shapes that do not match, and
        TrainingFailed if a network diverges.
        """
        self._check(images, targets)
        self._parameters = None
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        first = [initial_parameters(self.network, self.retraining, pretrained, generator) for generator in generators]
        start = _stacked(first, self.device)
        draws = Draws.of(self.retraining, (images.shape[1], images.shape[2]), generators, self.device)
        images, targets = images.to(self.device, torch.float32), targets.to(self.device, torch.float32)
        descent = _Descent(self.network, start, self.retraining)
        repeated = targets.repeat_interleave(draws.drawn, dim=0)  # [q * n, k]
        with torch.enable_grad():
            for done in range(self.retraining.steps):
                rate = learning_rate(self.retraining, done)
                descent.step(draws.minibatch(images, done), repeated, rate=rate)
        self._parameters = descent.parameters
        failed = int((~descent.finite()).sum())
        if failed:
            raise TrainingFailed(
                f"{failed} of {len(self.seeds)} networks diverged; use a learning rate below "
                f"{self.retraining.learning_rate:g}"
            )
        return self

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Pictures [G, N, C, H, W] in model space, N for each network -> logits [G, N, k] on the device."""
        if self._parameters is None:
            raise NotFitted("these networks have not been trained; call fit first")
        at_once = max(1, images_at_once(self.network, self.device) // len(self.seeds))
        return torch.cat(
            [
                many_logits(self.network, self._parameters, part.to(self.device))
                for part in torch.split(images, at_once, dim=1)
            ],
            dim=1,
        )

    def parameters(self, index: int) -> Parameters:
        """The parameters of one network."""
        if self._parameters is None:
            raise NotFitted("these networks have not been trained; call fit first")
        return {name: value[index].detach() for name, value in self._parameters.items()}

    def _check(self, images: Tensor, targets: Tensor) -> None:
        shape = self.network.channels, self.network.height, self.network.width
        if images.ndim != 6 or 0 in images.shape or len(images) != len(self.seeds) or images.shape[3:] != shape:
            raise ValueError(
                f"recalled images must be [{len(self.seeds)}, queries, rows, {', '.join(map(str, shape))}], "
                f"not {list(images.shape)}"
            )
        if targets.shape != (images.shape[1], self.network.classes):
            raise ValueError(f"targets must be [{images.shape[1]}, {self.network.classes}], not {list(targets.shape)}")


@final
@dataclass(frozen=True)
class Draws:
    """All random draws of the training: `numbers` [G, steps, L], uniform in 0..1, the same as FreshClassifier's.

    The L numbers of a step are q * r that order the rows, unless they are taken in sequence, then those of each
    operation of the augmentation for each image. Drawing all steps at once gives the same numbers as drawing step by
    step.
    """

    numbers: Tensor
    queries: int
    rows: int
    drawn: int
    kinds: tuple[str, ...]
    in_sequence: bool = False

    @classmethod
    def of(
        cls,
        retraining: Retraining,
        size: tuple[int, int],
        generators: Sequence[torch.Generator],
        device: torch.device,
    ) -> Self:
        """Draw for images of `size` (queries, rows), one generator per network."""
        queries, rows = size
        drawn, kinds = min(retraining.rows_per_class, rows), AUGMENTATIONS[retraining.augmentation]
        in_sequence = retraining.order == "sequence"
        length = (0 if in_sequence else queries * rows) + sum(OPERATIONS[kind][0] for kind in kinds) * queries * drawn
        numbers = torch.stack([torch.rand(retraining.steps, length, generator=each) for each in generators])
        return cls(numbers.to(device), queries, rows, drawn, kinds, in_sequence)

    def minibatch(self, images: Tensor, done: int) -> Tensor:
        """Images [G, q, r, C, H, W] -> the minibatches [G, q * n, C, H, W] of the step after `done` steps."""
        networks, queries = len(images), self.queries
        count = queries * self.drawn
        ordering = 0 if self.in_sequence else queries * self.rows
        sizes = [ordering, *(OPERATIONS[kind][0] * count for kind in self.kinds)]
        order, *augmented = torch.split(self.numbers[:, done], sizes, dim=1)
        if self.in_sequence:
            chosen = rows_in_sequence(done, self.rows, self.drawn).to(images.device).view(1, 1, -1)
        else:
            chosen = order.reshape(networks, queries, self.rows).argsort(dim=2, stable=True)[..., : self.drawn]
        network = torch.arange(networks, device=images.device).view(-1, 1, 1)
        batch = images[network, torch.arange(queries, device=images.device).view(1, -1, 1), chosen].flatten(0, 2)
        for kind, numbers in zip(self.kinds, augmented, strict=True):
            each, operation = OPERATIONS[kind]
            batch = operation(batch, numbers.reshape(networks, each, count).transpose(0, 1).flatten(1))
        return batch.view(networks, count, *batch.shape[1:])


@final
class _Descent:
    """SGD with momentum for all networks; `parameters` [G, ...] by name.

    The parameters are views of one vector, so an update takes three operations.
    """

    def __init__(self, network: AbstractNetwork, start: Parameters, retraining: Retraining) -> None:
        names = trainable_parameters(network)
        self._network, self._momentum, self._weight_decay = network, retraining.momentum, retraining.weight_decay
        self._values, self._leaves = flat_leaves(start, names)
        self._velocity = torch.zeros_like(self._values)
        self.parameters = start | self._leaves

    def step(self, images: Tensor, targets: Tensor, *, rate: float) -> None:
        """Take one step with each network on its minibatch [G, N, C, H, W], all with the targets [N, k]."""
        logits = many_logits(self._network, self.parameters, images)
        # Summed over networks, whose gradients are independent of each other.
        loss = -(targets * log_softmax(logits, dim=2)).sum() / images.shape[1]
        pieces = torch.autograd.grad(loss, list(self._leaves.values()))
        with torch.no_grad():
            gradient = torch.cat([piece.flatten() for piece in pieces]).add_(self._values, alpha=self._weight_decay)
            self._velocity.mul_(self._momentum).add_(gradient)
            self._values.sub_(self._velocity, alpha=rate)

    def finite(self) -> Tensor:
        """Whether all parameters of each network are finite: bool [G]."""
        return torch.stack([leaf.isfinite().flatten(1).all(dim=1) for leaf in self._leaves.values()]).all(dim=0)


def many_logits(network: AbstractNetwork, parameters: Parameters, images: Tensor) -> Tensor:
    """Logits [G, N, k] of images [G, N, C, H, W], equal to `network.logits` up to rounding; differentiable once."""
    prepared = network.prepare(images.flatten(0, 1))
    hidden = prepared.view(*images.shape[:2], *prepared.shape[1:]).transpose(1, 2)  # [G, C, N, H, W]
    for block in blueprint(network).blocks:
        assert isinstance(block, ConvBlock), "refused at construction"
        weight = parameters[f"{block.layer.convolution}.weight"]
        convolved: Tensor = _Convolutions.apply(hidden, weight, network.convolution_dtype or hidden.dtype)
        # The convolution's bias is left out, because the norm cancels it.
        normalised = layer_norm(convolved.flatten(3), (convolved[0, 0, 0].numel(),), eps=EPSILON).view_as(convolved)
        scale, shift = (parameters[f"{block.layer.norm}.{part}"][:, :, None, None, None] for part in ("scale", "shift"))
        hidden = torch.addcmul(shift, normalised, scale).relu_()
        if block.halve:
            pooled = avg_pool2d(hidden.flatten(0, 1), 2)
            hidden = pooled.view(*hidden.shape[:2], *pooled.shape[1:])
    features = hidden.transpose(1, 2).flatten(2)  # [G, N, D]
    weight, bias = (parameters[f"{CLASSIFIER}.{part}"] for part in ("weight", "bias"))
    return torch.baddbmm(bias.unsqueeze(1), features, weight.mT)


class _Convolutions(torch.autograd.Function):
    """Images [G, C, N, H, W] and weights [G, O, C, k, k] -> [G, O, N, H, W] of the same size, computed in `dtype`."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
        unfolded = _unfold(images, weights.shape[3], dtype)
        ctx.save_for_backward(unfolded, weights)
        ctx.shape = images.shape
        products = weights.flatten(2).to(dtype) @ unfolded
        return products.to(images.dtype).view(*products.shape[:2], *images.shape[2:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (gradient,) = gradients
        unfolded, weights = ctx.saved_tensors
        dtype, flat = unfolded.dtype, gradient.flatten(2).to(unfolded.dtype)
        of_weights = (flat @ unfolded.mT).to(weights.dtype).view_as(weights)
        of_images = None
        if ctx.needs_input_grad[0]:
            mirrored = weights.flip(3, 4).transpose(1, 2).flatten(2)  # [G, C, O * k * k]
            products = mirrored.to(dtype) @ _unfold(gradient, weights.shape[3], dtype)
            of_images = products.to(gradient.dtype).view(ctx.shape)
        return of_images, of_weights, None


def _unfold(images: Tensor, kernel: int, dtype: torch.dtype) -> Tensor:
    """Zero-padded images [G, C, N, H, W] -> their k x k windows [G, C * k * k, N * H * W]."""
    windows = pad(images, [kernel // 2] * 4).unfold(3, kernel, 1).unfold(4, kernel, 1)  # [G, C, N, H, W, k, k]
    windows = windows.permute(0, 1, 5, 6, 2, 3, 4)
    # Copied and converted in one pass.
    return torch.empty(windows.shape, dtype=dtype, device=images.device).copy_(windows).flatten(1, 3).flatten(2)


def _stacked(parameters: Sequence[Parameters], device: torch.device) -> Parameters:
    return {name: torch.stack([each[name] for each in parameters]).to(device) for name in parameters[0]}
