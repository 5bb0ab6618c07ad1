"""Performance matching through the inner loop: train a fresh network on what was recalled, score it on real images.

Backpropagation through training with full momentum is the paper's objective (section 4). With a window of M steps
within a randomly drawn number of steps it is RaT-BPTT (Feng et al., 2024), which costs a fraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.augmentation import augment
from trainer.objectives.base import AbstractObjective, OuterBatch
from trainer.objectives.inner.inner_training import AbstractInnerTraining, Momentum
from trainer.objectives.inner.step import AbstractInnerStep


@final
@dataclass(frozen=True)
class Unrolled(AbstractObjective):
    """`steps` is the longest training; its last `window` steps are differentiated.

    With window == steps every training has exactly that length (the paper); otherwise the length is drawn uniformly
    from window..steps for every outer step. Each inner step sees `rows_per_class` rows of every query, drawn without
    replacement. `augmentation` is drawn for every image of every step, and for the real pictures. `rate` is the step
    size, unless an episode brings a learned one. Networks are trained with momentum, fully differentiated, unless
    `other_training` says otherwise. Learned layers that an episode begins with get a gradient too, to the first order:
    as if the steps before the window added a constant to them.
    """

    step: AbstractInnerStep
    steps: int
    window: int
    rate: float
    momentum: float
    rows_per_class: int
    augmentation: tuple[str, ...] = ()
    other_training: AbstractInnerTraining | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.steps:
            raise ValueError(f"a window of {self.window} does not lie within 1..{self.steps} inner steps")

    def loss(self, episode: OuterBatch, generator: torch.Generator) -> Tensor:
        device = episode.recalled.items.device
        length = int(torch.randint(self.window, self.steps + 1, (), generator=generator))
        learned = episode.pretrained
        first = self.network.initialise(generator) if learned is None else self.network.initialise_from(learned)
        parameters = {name: value.detach().to(device) for name, value in first.items()}
        index = self._draw_rows(length, episode, generator).to(device)
        rate = torch.tensor(self.rate, device=device) if episode.rate is None else episode.rate

        before = length - self.window
        with torch.no_grad():
            images, targets = self._minibatches(episode, index[:before], generator)
        training = self.other_training or Momentum(self.momentum)
        state = training.begin(parameters)
        parameters, state = training.train(self.step, images, targets, parameters, state, rate=rate.detach())
        if learned is not None:
            parameters = {name: _as_far_on(value, first[name].to(device)) for name, value in parameters.items()}
        images, targets = self._minibatches(episode, index[before:], generator)
        parameters = training.unroll(self.step, images, targets, parameters, state, rate=rate)
        real = augment(episode.images, self.augmentation, generator)
        return self.step.evaluate(parameters, real, episode.image_targets)

    @property
    def network(self) -> AbstractNetwork:
        return self.step.network

    def _draw_rows(self, length: int, episode: OuterBatch, generator: torch.Generator) -> Tensor:
        """[length, q, rows_per_class] distinct rows of every query for every inner step."""
        queries, rows = episode.recalled.items.shape[:2]
        keys = torch.rand(length, queries, rows, generator=generator)
        return keys.argsort(dim=2)[:, :, : self.rows_per_class]

    def _minibatches(self, episode: OuterBatch, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """index [T, q, n] -> images [T, q * n, C, H, W] and targets [T, q * n, k]."""
        steps, queries, drawn = index.shape
        query = torch.arange(queries, device=index.device).view(1, queries, 1).expand_as(index)
        recalled = episode.recalled
        images = recalled.items[query, index].flatten(0, 2)  # [T * q * n, C, H, W]
        images = augment(images, self.augmentation, generator).reshape(steps, queries * drawn, *images.shape[1:])
        if recalled.targets.shape[1] == 1:
            shared = recalled.targets[:, 0].repeat_interleave(drawn, dim=0)
            return images, shared.expand(steps, *shared.shape)
        return images, recalled.targets[query, index].flatten(1, 2)


def _as_far_on(later: Tensor, first: Tensor) -> Tensor:
    """`later` with the gradient of `first`: what steps before the window have added to it is a constant."""
    return later + (first - first.detach())
