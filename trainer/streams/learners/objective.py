"""What a memory is trained for while its task streams by: fresh networks that are right about the real samples."""

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
        """Of a fresh network trained on all that the memory recalls, on images [N, C, H, W] with targets [N, k]."""


@final
@dataclass(frozen=True)
class RecalledUnrolled(AbstractStreamObjective):
    """Through the recalled images, for any network; `device` is where it is trained, whatever the memory lies on."""

    unrolled: Unrolled
    device: torch.device = CPU

    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        queries = torch.eye(memory.query_size)
        recalled = Recalled(*(tensor.to(self.device) for tensor in memory.recall(queries)))
        batch = OuterBatch(recalled, images.to(self.device), targets.to(self.device))
        return self.unrolled.score(batch, generator).to(queries.device)
