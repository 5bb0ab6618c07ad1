"""How many training pictures of each class a memory was made from, as its manifest says."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle

KEY: Final = "pictures_per_class"  # among the hyper-parameters: whole numbers in the order of the labels, like "90,12"
LONGEST: Final = 1000  # characters of a text in a manifest
MOST: Final = 10**9  # pictures of a class


def picture_counts(counts: Tensor) -> dict[str, str]:
    """The hyper-parameter for so many training pictures of each class, [C]; empty for more classes than fit."""
    text = ",".join(str(int(count)) for count in counts)
    return {KEY: text} if len(text) <= LONGEST else {}


def read_counts(bundle: MemoryBundle) -> Tensor | None:
    """Counts [C] of the labels, float64 and one or more each; None if the manifest does not say.

    Raises ValueError for a text that is no list of counts, one for each label.
    """
    text = bundle.manifest.provenance.hyper_parameters.get(KEY)
    if text is None:
        return None
    parts = str(text).split(",")
    if len(parts) != len(bundle.labels) or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"its {KEY} must be {len(bundle.labels)} whole numbers, one for each label")
    if any(len(part) > len(str(MOST)) or int(part) > MOST for part in parts):
        raise ValueError(f"its {KEY} must be at most {MOST}")
    return torch.tensor([max(1, int(part)) for part in parts], dtype=torch.float64)
