"""Requests for predictions that wait, and which of them go into one batch (service/batch_prediction.py computes it).

Everything here runs on the event loop, so there are no locks; the batches are computed in threads.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, final

from anyio import CapacityLimiter

from recall_server.api.state.computing import compute
from recall_server.errors import Overloaded
from recall_server.service.batch_prediction import TOGETHER, Outcome, PredictionRequest
from recall_server.service.predictions import Predictions

MOST_THREADS: Final = 4
MOST_WAITING: Final = 512  # requests

Predict = Callable[[Sequence[PredictionRequest]], list[Outcome]]


@final
@dataclass(frozen=True, eq=False)
class _Waiting:
    request: PredictionRequest
    future: asyncio.Future[Predictions]

    @property
    def size(self) -> int:
        return len(self.request.pictures)


@final
@dataclass(eq=False)
class _Line:
    """The requests that wait for one network, and how many batches of it are being computed."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    pictures: int = 0
    running: int = 0

    def take(self) -> list[_Waiting]:
        """The first requests whose callers still wait, of TOGETHER pictures or one request if that has more."""
        taken: list[_Waiting] = []
        pictures = 0
        while self.waiting and (not taken or pictures + self.waiting[0].size <= TOGETHER):
            first = self.waiting.popleft()
            self.pictures -= first.size
            if not first.future.done():
                taken.append(first)
                pictures += first.size
        return taken

    def forget_given_up(self) -> None:
        """Remove the requests whose callers have left."""
        self.waiting = deque(each for each in self.waiting if not each.future.done())
        self.pictures = sum(each.size for each in self.waiting)


@final
class PredictionQueue:
    """Forms batches of what waits for the same network; as many are computed at a time as there are processors.

    A request that finds no batch of its network under way begins at once. Others wait until that batch has ended, or
    until they fill a batch of their own.
    """

    def __init__(self, predict: Predict, key: Callable[[str], Hashable], threads: int | None = None) -> None:
        self._predict, self._key = predict, key
        self._threads = CapacityLimiter(threads or min(MOST_THREADS, len(os.sched_getaffinity(0))))
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Raise Overloaded where too many requests wait."""
        if self._waiting() >= MOST_WAITING:
            for line in self._lines.values():
                line.forget_given_up()
            if (waiting := self._waiting()) >= MOST_WAITING:
                raise Overloaded(f"{waiting} requests wait to be computed", retry_after=2)

    def submit(self, request: PredictionRequest) -> asyncio.Future[Predictions]:
        """The predictions, or the error, of a request to come. Cancel the future to give the request up.

        Raises Overloaded.
        """
        self.check()
        entry = _Waiting(request, asyncio.get_running_loop().create_future())
        line = self._lines.setdefault(self._key(request.identifier), _Line())
        line.waiting.append(entry)
        line.pictures += entry.size
        self._begin()
        return entry.future

    def _waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def _begin(self) -> None:
        """Begin batches while there are threads for them."""
        for key in list(self._lines):
            line = self._lines[key]
            while line.waiting and (not line.running or line.pictures >= TOGETHER):
                if len(self._running) >= self._threads.total_tokens:
                    return
                if batch := line.take():
                    line.running += 1
                    self._lines.move_to_end(key)  # the others have their turn first
                    task = asyncio.create_task(self._run(line, batch))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
            if not line.waiting and not line.running:
                del self._lines[key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()

    async def _run(self, line: _Line, batch: list[_Waiting]) -> None:
        requests = [each.request for each in batch]
        outcomes: list[Outcome]
        try:
            outcomes = await compute(partial(self._predict, requests), self._threads)
        except Exception as error:
            outcomes = [error] * len(batch)
        finally:
            line.running -= 1
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.future.done():
                continue
            if isinstance(outcome, Exception):
                each.future.set_exception(outcome)
            else:
                each.future.set_result(outcome)
