"""The interface of places that compute the parts of a command's work, and the place that is always there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, final

Item = TypeVar("Item")
Result = TypeVar("Result")


class Tasks(Protocol):
    """Computes the same work for many items."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield each item with its result as soon as that is known. Raises the errors of the work."""
        ...


@final
class Here:
    """Computes one item after another in this process."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result]]:
        return ((item, work(item)) for item in items)
