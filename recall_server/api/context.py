"""What every route is given: the service, and threads to use it in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

import anyio
from fastapi import Depends, Request

from recall_server.service import RecallService
from recall_server.settings import Settings

CONCURRENT = 4  # recalls, encodings and predictions at a time: the rest of the thread pool stays free for files

P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Context:
    """The service of this app; anything that computes goes through `run`, so that the event loop never waits."""

    service: RecallService
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(CONCURRENT))

    @property
    def settings(self) -> Settings:
        return self.service.settings

    async def run(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Call a function in a thread."""
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self.limiter)


def _context(request: Request) -> Context:
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Served = Annotated[Context, Depends(_context)]
