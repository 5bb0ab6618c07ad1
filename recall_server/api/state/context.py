"""What every route is given: the service, and threads to use it in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar, final

import anyio
from fastapi import Depends, Request

from recall_server.api.state.answer_cache import AnswerCache
from recall_server.api.state.metrics import Metrics
from recall_server.api.state.rates import Rates
from recall_server.config.settings import Settings, rate
from recall_server.errors import Overloaded
from recall_server.service.service import RecallService

CONCURRENT = 4  # recalls, encodings and predictions at a time: the rest of the thread pool stays free for files
PARSERS = 1  # large JSON bodies parsed at a time: the parser keeps the interpreter's lock
LONGEST_LINE = 512  # requests that wait for one of those threads; more would only wait for nothing
CALLER = "recall.caller"  # key of the ASGI scope: the name of the caller, set by the guard

P = ParamSpec("P")
Result = TypeVar("Result")


@final
@dataclass(frozen=True, eq=False)
class Context:
    """The service of this app; anything that computes goes through `run`, so that the event loop never waits."""

    service: RecallService
    cache: AnswerCache
    metrics: Metrics
    rates: Rates
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(CONCURRENT))
    parsers: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(PARSERS))

    @classmethod
    def of(cls, service: RecallService) -> Context:
        settings = service.settings
        cache = AnswerCache(settings.cache_bytes)
        metrics = Metrics(service, cached_bytes=lambda: cache.bytes)
        return cls(service, cache, metrics, Rates(rate(settings.request_rate), rate(settings.work_rate)))

    @property
    def settings(self) -> Settings:
        return self.service.settings

    async def run(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Compute in a thread; raises Overloaded where too many wait for one already."""
        self.check_threads()
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.limiter)

    async def look(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Ask the job table or the disk in a thread, without a place in the line of those that compute."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))

    def check_threads(self) -> None:
        """Raises Overloaded where `run` would."""
        waiting = self.limiter.statistics().tasks_waiting
        if waiting >= LONGEST_LINE:
            raise Overloaded(f"{waiting} requests wait to be computed already", retry_after=2)

    def pay(self, request: Request, pictures: int) -> None:
        """Charge the caller of a request for what it came to."""
        self.rates.pay(request.scope.get(CALLER, ""), pictures)

    def disk_is_low(self) -> bool:
        """Whether there is less free space than the operator wants to keep, or no telling."""
        try:
            return shutil.disk_usage(self.settings.state).free < self.settings.min_free_bytes
        except OSError:
            return True


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Served = Annotated[Context, Depends(_context)]
