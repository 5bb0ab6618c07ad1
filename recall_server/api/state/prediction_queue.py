"""Requests for predictions that wait, and which of them go into one batch (service/batch_prediction.py computes it).

Requests come and get their answers on the event loop. A thread that has computed a batch takes the next one itself:
the event loop may be busy, and the thread would wait for it. A lock guards what both use.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
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
    """The requests that wait for one network, and how many batches of it are being computed.

    `expected` threads have been started for it and have not taken a batch yet.
    """

    waiting: deque[_Waiting] = field(default_factory=deque)
    pictures: int = 0
    running: int = 0
    expected: int = 0

    def may_begin(self) -> bool:
        """Whether a batch may begin now: none is under way, or those that wait fill one."""
        return bool(self.waiting) and (not self.running or self.pictures >= TOGETHER)

    def needs_thread(self) -> bool:
        """Whether another thread would find a batch that may begin."""
        batches = self.pictures // TOGETHER if self.running else max(1, math.ceil(self.pictures / TOGETHER))
        return self.may_begin() and self.expected < batches

    def take(self) -> list[_Waiting]:
        """The first requests whose callers still wait, of TOGETHER pictures or one request if that has more."""
        taken: list[_Waiting] = []
        pictures = 0
        self.expected = max(0, self.expected - 1)
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
        self._limiter = CapacityLimiter(threads or min(MOST_THREADS, len(os.sched_getaffinity(0))))
        self._lines: OrderedDict[Hashable, _Line] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = 0  # that compute, or will before long
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """Raise Overloaded where too many requests wait."""
        with self._lock:
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
        with self._lock:
            line = self._lines.setdefault(self._key(request.identifier), _Line())
            line.waiting.append(entry)
            line.pictures += entry.size
            begins = self._threads < self._limiter.total_tokens and line.needs_thread()
            line.expected += begins
            self._threads += begins
        if begins:
            task = asyncio.create_task(compute(self._work, self._limiter))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return entry.future

    def _waiting(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def _work(self) -> None:
        """Compute batches until none may begin."""
        while (taken := self._next()) is not None:
            line, batch = taken
            try:
                outcomes = self._predict([each.request for each in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            with self._lock:
                line.running -= 1
            batch[0].future.get_loop().call_soon_threadsafe(_answer, batch, outcomes)

    def _next(self) -> tuple[_Line, list[_Waiting]] | None:
        """The next batch, of the network whose turn it is. None ends the thread that asks."""
        with self._lock:
            for key, line in list(self._lines.items()):
                if line.may_begin() and (batch := line.take()):
                    line.running += 1
                    self._lines.move_to_end(key)  # the others have their turn first
                    return line, batch
                if not line.waiting and not line.running:
                    del self._lines[key]
            self._threads -= 1
            return None


def _answer(batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for each, outcome in zip(batch, outcomes, strict=True):
        if each.future.done():
            continue
        if isinstance(outcome, Exception):
            each.future.set_exception(outcome)
        else:
            each.future.set_result(outcome)
