"""Trajectory matching for hallucinators (HaBa, Liu et al., 2022), with a loss that keeps images of one base different.

To the loss of trajectory matching is added

    w (1 + cos(f(x_i), f(x_j))) / 2,

where x_i and x_j are the images that two hallucinators make of the same bases, and f are features of an extractor. The
extractor is trained adversarially: to classify the images, to give images of one base similar features, and to give
images of different classes different features (supervised contrastive learning, Khosla et al., 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from recall_server.core.memory import VARIANTS, Recalled
from recall_server.core.networks import Parameters
from recall_server.core.training.augmentation import augment
from recall_server.core.training.retraining import Retraining
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.layer_features import AbstractLayerFeatures
from trainer.objectives.sampler import Sampler
from trainer.objectives.trajectory.matching import TrajectoryMatching

EXTRACTOR, VELOCITY = "extractor.", "velocity."  # prefixes of names in the state
TEMPERATURE = 0.07  # of the contrastive loss


@final
@dataclass(frozen=True, eq=False)
class HallucinatedTrajectories(AbstractObjective):
    """`trajectories` in which each step uses the images of one hallucinator. `difference` is w.

    The extractor has the architecture of `features`. Its loss is the cross-entropy plus `alike` (1 - cos(f(x_i),
    f(x_j))) / 2 plus `contrast` times the contrastive loss. Each outer step is followed by one step of SGD with
    `momentum` on it, at the learning rate `rate`.
    """

    requires: ClassVar[frozenset[str]] = frozenset({VARIANTS})
    trajectories: TrajectoryMatching
    features: AbstractLayerFeatures
    difference: float = 0.1
    alike: float = 0.1
    contrast: float = 0.1
    rate: float = 0.001
    momentum: float = 0.9

    def learned(self) -> dict[str, Tensor]:
        return self.trajectories.learned()

    def retraining(self, schedule: Retraining, tensors: Mapping[str, Tensor]) -> Retraining:
        return self.trajectories.retraining(schedule, tensors)

    def begin(self, generator: torch.Generator) -> State:
        network = self.features.network.initialise(generator)
        return {EXTRACTOR + name: value for name, value in network.items()} | {
            VELOCITY + name: torch.zeros_like(value) for name, value in network.items()
        }

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        own, device = self.trajectories, sampler.real.items.device
        segment = own.experts.draw(own.latest_start, own.expert_epochs, generator, device)
        recalled = sampler.draw_all(1, generator).recalled
        variants = sampler.memory.variants
        matched = own.compare(recalled, segment, generator, variants=variants)
        one, other = self.pair(recalled, variants, generator)
        return matched + self.difference * self.similarity(_under(EXTRACTOR, state, device), one, other)

    def similarity(self, extractor: Parameters, one: Tensor, other: Tensor) -> Tensor:
        """(1 + cos) / 2 of the features of images [n, ...] and [n, ...], averaged over n: 1 if they are the same."""
        first, second = self.features(extractor, torch.cat([one, other]))[-1].chunk(2)
        return (1 + cosine_similarity(first, second).mean()) / 2

    def pair(self, recalled: Recalled, variants: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images [q * s, ...] that two random hallucinators make of all bases, each augmented by itself."""
        items = recalled.items.unflatten(1, (-1, variants)).flatten(0, 1)  # type: ignore[no-untyped-call]
        chosen = torch.randperm(variants, generator=generator)[:2]
        both = torch.cat([items[:, index] for index in chosen])
        one, other = augment(both, self.trajectories.augmentation, generator).chunk(2)
        return one, other

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        device = sampler.real.items.device
        with torch.no_grad():
            recalled = sampler.draw_all(1, generator).recalled
            one, other = self.pair(recalled, sampler.memory.variants, generator)
        labels = torch.arange(len(recalled.items), device=device).repeat_interleave(len(one) // len(recalled.items))
        leaves = {name: value.requires_grad_() for name, value in _under(EXTRACTOR, state, device).items()}
        loss = self.extractor_loss(leaves, one, other, labels)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        after = {}
        for (name, value), gradient in zip(leaves.items(), gradients, strict=True):
            velocity = self.momentum * state[VELOCITY + name].to(device) + gradient
            after[VELOCITY + name] = velocity
            after[EXTRACTOR + name] = value.detach() - self.rate * velocity
        return after

    def extractor_loss(self, extractor: Parameters, one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        """The loss of the extractor on images [n, ...] that two hallucinators make of the same bases."""
        features = self.features.network.features(extractor, torch.cat([one, other]))
        logits = features @ extractor["classifier.weight"].T + extractor["classifier.bias"]
        first, second = features.chunk(2)
        apart = (1 - cosine_similarity(first, second).mean()) / 2
        contrasted = contrastive(normalize(features), labels.repeat(2))
        return cross_entropy(logits, labels.repeat(2)) + self.alike * apart + self.contrast * contrasted


def contrastive(features: Tensor, labels: Tensor) -> Tensor:
    """The supervised contrastive loss of unit vectors [n, F], with two or more of each class."""
    logits = features @ features.T / TEMPERATURE
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    positive = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    logarithms = logits - logits.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    return -((logarithms * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def _under(prefix: str, state: State, device: torch.device) -> Parameters:
    """The tensors of the state whose names have this prefix, without it. They share no memory with leaves."""
    found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value.detach().to(device) for name, value in found.items()}
