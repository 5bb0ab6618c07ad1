"""Targets: the desired output of a classifier for each recalled item.

Hard targets are one-hot and cost nothing. Soft targets are distributions over the labels that are learned along with
the items (Bohdal et al., 2020; Sucholutsky and Schonlau, 2021). Unbounded targets are arbitrary numbers for a squared
error (Nguyen et al., 2021). Both are stored for each item, or once for all items of a label.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, final, get_args

import torch
from torch import Tensor

TargetForm = Literal["hard", "soft", "unbounded"]

FORMS: tuple[str, ...] = get_args(TargetForm)
TENSOR = "targets"  # the name that a memory stores them by
OWN_SHARE = 0.9  # of a label, in soft targets before they are learned
SMALLEST_SHARE = 1e-6  # of a label in the targets of labels that it was never seen with


@final
@dataclass(frozen=True, eq=False)
class Targets:
    """`values` [d_y, r, d_y], or [d_y, 1, d_y] if all items of a label share one; None for hard targets.

    The values of soft targets are logits, so every number is valid and gradient steps need no projection. Raises
    ValueError if the values do not match the form.
    """

    form: TargetForm = "hard"
    values: Tensor | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"the targets {self.form!r} are not one of {', '.join(FORMS)}")
        if (self.form == "hard") != (self.values is None):
            raise ValueError("soft and unbounded targets are stored, hard ones are not")
        if self.values is not None and (self.values.ndim != 3 or self.values.shape[0] != self.values.shape[2]):
            raise ValueError(f"targets must be [labels, rows or 1, labels], not {list(self.values.shape)}")

    def check(self, labels: int, rows: int) -> None:
        """Raise ValueError if the memory has another number of labels or rows."""
        if self.values is not None and self.values.shape[:2] not in {(labels, rows), (labels, 1)}:
            raise ValueError(
                f"the targets are {list(self.values.shape)}, not [{labels}, {rows} or 1, {labels}] as the memory's "
                "queries and rows are"
            )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], form: object) -> Self:
        """The targets among a memory's stored tensors. Raises KeyError if they are missing."""
        if form not in FORMS:
            raise ValueError(f"the targets {form!r} are not one of {', '.join(FORMS)}")
        return cls() if form == "hard" else cls(form, tensors[TENSOR])  # type: ignore[arg-type]

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors of the targets."""
        return {} if self.values is None else {TENSOR: self.values}

    def among(self, queries: Tensor, rows: Tensor | None = None) -> Tensor:
        """Targets [q, n, q] of the items of `queries` [q, d_y], where query j is class j.

        They are [q, 1, q] if all items of a query share one. `rows` [q, n] selects items. Soft targets are restricted
        to these classes and normalised again.
        """
        if self.values is None:
            return torch.eye(len(queries), dtype=queries.dtype, device=queries.device).unsqueeze(1)
        values = self.values.softmax(dim=2) if self.form == "soft" else self.values
        shares = torch.einsum("qd,drk->qrk", queries, values) @ queries.T  # [q, r or 1, q]
        if rows is not None and shares.shape[1] > 1:
            shares = shares.gather(1, rows.unsqueeze(2).expand(-1, -1, shares.shape[2]))
        return shares / shares.sum(dim=2, keepdim=True) if self.form == "soft" else shares

    def extended(self, positions: Sequence[int], labels: int) -> Self:
        """The targets for `labels` labels, with the known ones at `positions`. A new label has a hard target."""
        if self.values is None:
            return self
        larger = initial_targets(self.form, labels, self.values.shape[1], own_share=1 - SMALLEST_SHARE).values
        assert larger is not None, "the form is not hard"
        known = torch.tensor(positions)
        if self.form == "soft":  # next to logits that stand for shares
            larger[known] = math.log(SMALLEST_SHARE)
        values = self.values.log_softmax(dim=2) if self.form == "soft" else self.values
        larger[known.unsqueeze(1), :, known] = values.transpose(1, 2)
        return type(self)(self.form, larger)


def initial_targets(form: TargetForm, labels: int, rows: int, *, own_share: float = OWN_SHARE) -> Targets:
    """Initial targets: soft ones give all other labels the same share, unbounded ones are centred one-hot."""
    if form == "hard":
        return Targets()
    own = torch.eye(labels)
    if form == "unbounded":
        return Targets(form, (own - 1 / labels).unsqueeze(1).repeat(1, rows, 1))
    other = (1 - own_share) / max(1, labels - 1)
    shares = torch.full((labels, labels), other).fill_diagonal_(own_share)
    return Targets(form, shares.log().unsqueeze(1).repeat(1, rows, 1))
