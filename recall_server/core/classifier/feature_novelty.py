"""How strange a picture is to a memory of features: calibrated on known pictures that the memory was not made from.

The largest logit of the head over all of a memory's classes tells pictures of other classes apart better than distances
to class means do (Vaze et al., "Open-set recognition: a good closed-set classifier is all you need", ICLR 2022;
`benchmarks/familiarity.py` has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead


@final
@dataclass(frozen=True, eq=False)
class FeatureNovelty:
    """`head` over all classes of a memory, and the largest logits `known` [V], ascending, of known pictures.

    Raises ValueError for known logits that are none, not finite or not in order.
    """

    head: LinearHead
    known: Tensor

    def __post_init__(self) -> None:
        if self.known.ndim != 1 or not len(self.known) or not bool(self.known.isfinite().all()):
            raise ValueError("the largest logits of known pictures must be [V], one or more finite numbers")
        if bool((self.known.diff() < 0).any()):
            raise ValueError("the largest logits of known pictures must be in ascending order")

    @classmethod
    def of(cls, head: LinearHead, features: Tensor) -> Self:
        """Calibrated on the features [V, D] of known pictures that the head was not trained on."""
        return cls(head, head.logits(features).amax(dim=-1).sort().values)

    def score(self, features: Tensor) -> Tensor:
        """Features [N, D] -> the share [N] of known pictures that look more like a class of the memory, 0 to 1."""
        largest = self.head.logits(features).amax(dim=-1)
        return 1 - torch.searchsorted(self.known, largest, right=True) / len(self.known)
