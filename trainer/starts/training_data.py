"""What a start is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.splits import Split

CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class TrainingData:
    """Training pictures, their model space, the generator of random choices, and the device to compute on."""

    split: Split
    preprocessing: AbstractPreprocessing
    generator: torch.Generator
    device: torch.device = CPU

    def items(self, some: Split) -> Tensor:
        """Some of the pictures in model space, on the CPU."""
        return self.preprocessing.to_model(some.pixels())
