"""The progress of a run, its accuracy so far, and its limits."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

LAST_STEP = ("loss", "gradient_norm", "outer_rate")  # figures of the last outer step


class Validation(NamedTuple):
    """Accuracies of several fresh networks (or episodes) on validation pictures, with their step and time."""

    step: int
    seconds: float
    values: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        return statistics.fmean(self.values)

    def to_json(self) -> list[Any]:
        return [self.step, self.seconds, list(self.values)]


@dataclass
class RunState:
    """The progress of a run: `seconds` is its time so far, `history` its validations in order.

    `loss`, `gradient_norm` (before clipping) and `outer_rate` are of the last outer step, and NaN before the first.
    `version` counts the bundles that were written, and `published` is the validation accuracy of the last of them.
    `best` is the highest of all validations, minus infinity before the first.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    best: float = -math.inf
    version: int = 0
    published: float = -math.inf
    history: list[Validation] = field(default_factory=list)
    gradient_norm: float = math.nan
    outer_rate: float = math.nan

    @property
    def noise(self) -> float:
        """The standard error of the difference between two validations: sqrt(2 v / n).

        v is the variance between the n networks of one validation, averaged over all validations; 0 if none had two
        networks.
        """
        several = [point.values for point in self.history if len(point.values) > 1]
        if not several:
            return 0.0
        return math.sqrt(2 * statistics.fmean(statistics.variance(values) / len(values) for values in several))

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for infinity and NaN, which JSON lacks."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "history"}
        finite = {name: value if math.isfinite(value) else None for name, value in plain.items()}
        return finite | {"history": [point.to_json() for point in self.history]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. Raises KeyError or TypeError for anything else."""
        history = [Validation(step, seconds, tuple(values)) for step, seconds, values in stored["history"]]
        given = {name: value for name, value in stored.items() if name != "history" and value is not None}
        return cls(**given, history=history)


@dataclass(frozen=True)
class RunLimits:
    """When to stop, validate and write checkpoints. The run ends by steps or by minutes, whichever comes first.

    `minutes` limits the time of the whole run, including its earlier parts if it was resumed; `clock` returns seconds.
    With `begun`, what that clock said when the command began, the minutes include the reading of data and all else
    before the first step. With `validate_seconds`, a validation is also due when the last one was that long ago.
    """

    outer_steps: int | None
    minutes: float | None = None
    validate_every: int = 250
    validate_seconds: float | None = None
    checkpoint_seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic
    begun: float | None = None
