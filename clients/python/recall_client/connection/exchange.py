"""What a verb does, step by step, without doing any of it: the one implementation behind every kind of client.

An exchange is a generator that yields steps and is sent what came of them: an answer, an item of a stream, nothing. It
decides everything (what to ask, what an answer means, whether to try again); who runs it only waits. `connection.py`
runs exchanges in the thread that asks, `async_connection.py` in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from recall_client.messages.requests import Request

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Ask, and wait at most `timeout` seconds for a sign of life. Comes back as an httpx2.Response, read to its end."""

    request: Request
    timeout: float


@dataclass(frozen=True)
class Open:
    """The same, but of a good answer only the head is read. `Next` reads on; at most one answer is open at a time."""

    request: Request
    timeout: float
    as_events: bool = False


@dataclass(frozen=True)
class Next:
    """What comes next of the open answer: bytes, or a httpx2.ServerSentEvent. None at its end."""


@dataclass(frozen=True)
class Pause:
    """Let so many seconds go by."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that takes its time without the network (files, pictures). Comes back as its result."""

    function: Callable[[], Any]


Step: TypeAlias = "Send | Open | Next | Pause | Work"
Exchange: TypeAlias = "Generator[Step, Any, T]"
"""Steps out, what came of them in, and at last the result. What goes wrong in a step is raised where it was yielded:
httpx2.RequestError by the first three."""


def work(function: Callable[[], T]) -> Exchange[T]:
    """Do something that takes its time."""
    result: T = yield Work(function)
    return result


@dataclass(frozen=True)
class Outcome:
    """What came of a step: a value, or an error."""

    value: Any = None
    error: BaseException | None = None

    def resume(self, exchange: Exchange[Any]) -> Step:
        """Tell the exchange, and get its next step. Raises StopIteration with the result once there is none."""
        return exchange.send(self.value) if self.error is None else exchange.throw(self.error)
