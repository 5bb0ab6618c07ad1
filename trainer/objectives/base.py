"""AXIS 2 of the design: what a memory is trained for.

An objective scores one episode: a few queries, the images that they recalled, and real pictures of the same classes.
Inner networks and schedules belong to the objective; the outer loop (`trainer/run/distill.py`) knows none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from recall_server.core.networks import Parameters


@dataclass(frozen=True)
class OuterBatch:
    """What some queries recalled, and real images [N, C, H, W] of the same classes with targets [N, q]. Model space.

    `rate` [] is the step size of inner training, where it is learned; `pretrained` are the layers, all but the last,
    that inner networks begin with, where they do not begin at random.
    """

    recalled: Recalled
    images: Tensor
    image_targets: Tensor
    rate: Tensor | None = None
    pretrained: Parameters | None = None


class AbstractObjective(ABC):
    """A scalar loss of one episode, differentiable in the recalled images."""

    @abstractmethod
    def loss(self, episode: OuterBatch, generator: torch.Generator) -> Tensor:
        """The loss to descend; every random choice comes from the generator (a CPU one)."""
