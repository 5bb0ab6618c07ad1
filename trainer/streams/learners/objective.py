"""The objective of a memory under construction: the loss of freshly trained networks on real samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.core.memory import AddressedBases, Recalled
from trainer.objectives.sampler import OuterBatch
from trainer.objectives.unrolled import Unrolled
from trainer.streams.sources.task import CPU


class AbstractStreamObjective(ABC):
    """A scalar loss, differentiable in the tensors of the memory."""

    @abstractmethod
    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """The loss on images [N, C, H, W] with targets [N, k] of a fresh network trained on the recalled images."""


@final
@dataclass(frozen=True)
class RecalledUnrolled(AbstractStreamObjective):
    """Trains any network on the recalled images, on `device`, whatever the device of the memory."""

    unrolled: Unrolled
    device: torch.device = CPU

    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        queries = torch.eye(memory.query_size)
        recalled = Recalled(*(tensor.to(self.device) for tensor in memory.recall(queries)))
        batch = OuterBatch(recalled, images.to(self.device), targets.to(self.device))
        return self.unrolled.score(batch, generator).to(queries.device)
