"""A small network, images and batches in float64, for tests of matching objectives."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.memory import Recalled, StoredItems
from recall_server.core.networks import AbstractNetwork, ConvNet, Parameters
from trainer.objectives.matching.networks import AbstractNetworks
from trainer.objectives.queries import LabelQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import OuterBatch, Sampler

NETWORK = ConvNet(channels=2, height=8, width=10, classes=3, filters=4, depth=2)
TERMS = 8 * 12 * 4 * 9  # pixels of an image, and products of a convolution: a gradient is their sum


def doubles(network: AbstractNetwork = NETWORK, seed: int = 0) -> Parameters:
    generator = torch.Generator().manual_seed(seed)
    return {name: value.double() for name, value in network.initialise(generator).items()}


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, 2, 8, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(recalled: Tensor, real: Tensor) -> OuterBatch:
    """Recalled items [q, r, ...] and real ones [q, n, ...] of hard classes."""
    eye = torch.eye(len(recalled), dtype=torch.float64)
    targets = eye.repeat_interleave(real.shape[1], dim=0)
    return OuterBatch(Recalled(recalled, eye.unsqueeze(1)), real.flatten(0, 1), targets)


def sampler(rows: int = 2, each: int = 6) -> Sampler:
    """Three classes with `rows` stored items and `each` real ones, in float32."""
    real = images(3, each, seed=2).float().flatten(0, 1)
    memory = StoredItems(images(3, rows).float())
    return Sampler(memory, LabelQueries(), RealData.of(real, torch.arange(3).repeat_interleave(each), 3))


def ages(networks: AbstractNetworks, steps: int) -> list[tuple[int, ...]]:
    """Where the networks stand before each of so many outer steps."""
    generator = torch.Generator()
    state, found = networks.begin(generator.manual_seed(0)), []
    for seed in range(steps):
        found.append(tuple(networks.age(state)))
        state = networks.advance(sampler(), state, generator.manual_seed(seed))
    return found
