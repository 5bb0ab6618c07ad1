"""How a method is made small, so that a run takes seconds on a data set of tiny pictures."""

from __future__ import annotations

from dataclasses import dataclass

NETWORK = "convnet:filters=16,depth=2"
NETWORKS = [f"objective.network={NETWORK}", f"retraining.network={NETWORK}"]


@dataclass(frozen=True)
class Small:
    """Fields that are set, and the budget."""

    overrides: list[str]
    images_per_class: float = 2
    bases: int = 8
    rows: int | None = 4
