"""Features that are drawn from what a memory says of its classes: normal around the centres of a class."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.memory import DescribedClasses


def drawn_features(memory: DescribedClasses, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Features [n, D] of the classes `labels` [n] of a memory, in its space, with the deviations of these classes."""
    centre = torch.randint(len(memory.centres), (len(labels),), generator=generator)
    noise = torch.randn(len(labels), len(memory.bases), generator=generator)
    left = left_around(memory.centres, memory.deviations)
    return (memory.centres[centre, labels] + left[labels] * noise) @ memory.bases


def left_around(centres: Tensor, deviations: Tensor) -> Tensor:
    """What is left of the deviations [C, K] of classes around their centres [r, C, K]."""
    return (deviations.square() - centres.var(dim=0, correction=0)).clamp(min=0).sqrt()
