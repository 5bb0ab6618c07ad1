"""Soft targets: which distribution over the labels the images that are recalled for a label are paired with.

A memory may learn them along with its images (Bohdal et al., 2020; Sucholutsky and Schonlau, 2021): one distribution
for each label, of all labels. Among some labels alone it is what it gives to these, made to sum to one again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_OWN = 1e-3  # of a label's own share: what is left among a few labels must still be a distribution
TOLERANCE = 1e-3  # of a sum


def check_soft_targets(targets: Tensor, labels: int) -> None:
    """ValueError, in one sentence, for what is not one distribution [labels] for each label with a share of its own."""
    if tuple(targets.shape) != (labels, labels):
        raise ValueError(f"the targets are {list(targets.shape)}, not [{labels}, {labels}] as the labels are")
    if bool((targets < 0).any()) or bool(((targets.sum(dim=1) - 1).abs() > TOLERANCE).any()):
        raise ValueError("the targets of a label are not all zero or more with a sum of one")
    if bool((targets.diagonal() < SMALLEST_OWN).any()):
        raise ValueError(f"the targets give a label less than {SMALLEST_OWN:g} of its own images")


def extended(targets: Tensor, known: Sequence[str], labels: Sequence[str]) -> Tensor:
    """The targets of `known` labels for more `labels`, in any order: each new one is a class of its own."""
    larger = torch.eye(len(labels))
    positions = torch.tensor([list(labels).index(label) for label in known])
    larger[positions.unsqueeze(1), positions] = targets
    return larger


def restrict(targets: Tensor | None, queries: Tensor) -> Tensor:
    """Targets [q, q] of q one-hot queries [q, labels] among themselves; each is a class of its own without any."""
    if targets is None:
        return torch.eye(len(queries), device=queries.device)
    shares = queries @ targets @ queries.T
    return shares / shares.sum(dim=1, keepdim=True)
