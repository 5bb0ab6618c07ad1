"""What a memory is trained for while its task streams by: fresh networks that are right about the real samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.memory import AddressedBases
from trainer.objectives.base import Episode
from trainer.objectives.unrolled import Unrolled


class AbstractStreamObjective(ABC):
    """A scalar loss, differentiable in the tensors of the memory."""

    @abstractmethod
    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Of a fresh network trained on all that the memory recalls, on images [N, C, H, W] with targets [N, k]."""


@final
@dataclass(frozen=True)
class RecalledUnrolled(AbstractStreamObjective):
    """Through the recalled images, for any network."""

    unrolled: Unrolled

    def loss(self, memory: AddressedBases, images: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        queries = torch.eye(memory.query_size)
        return self.unrolled.loss(Episode(memory.recall(queries), queries, images, targets), generator)
