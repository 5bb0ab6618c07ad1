"""What every route is given: the service, and the threads to use it in."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ParamSpec, TypeVar, final

import anyio
from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from recall_server.api.state.answer_cache import AnswerCache, WrittenRecords
from recall_server.api.state.computing import compute
from recall_server.api.state.decoding_shares import DecodingShares
from recall_server.api.state.job_feeds import JobFeeds
from recall_server.api.state.metrics import Metrics
from recall_server.api.state.prediction_queue import PredictionQueue
from recall_server.api.state.rates import Rates
from recall_server.config.settings import Settings, rate
from recall_server.errors import Overloaded
from recall_server.recall import Picture, Upload
from recall_server.service.batch_prediction import MustBeDecodedFirst, PredictionRequest
from recall_server.service.predictions import Predictions, joined
from recall_server.service.service import RecallService

CONCURRENT = 4  # recalls, encodings and predictions at a time; the other threads stay free for files
PARSERS = 1  # large JSON bodies parsed at a time: the parser holds the interpreter's lock
SUBMISSIONS = 4  # trainings prepared and queued at a time: what they write to a locked table holds no other threads
LOOKUPS = 16  # queries of the job table at a time; a locked table holds these threads and no others
LONGEST_LINE = 512  # requests that wait for one of the computing threads
PIXELS_PER_PICTURE = 1_000_000  # decoding so many pixels is charged like computing one picture
WRITTEN_BYTES = 2**23  # of the records on pages of classifiers, each of a kilobyte or so
MOMENT = 0.05  # seconds in which most predictions are made; only after them is a caller who leaves noticed
CALLER = "recall.caller"  # key of the ASGI scope: the name of the caller, set by the guard

P = ParamSpec("P")
Result = TypeVar("Result")


def _limiter(threads: int) -> Callable[[], anyio.CapacityLimiter]:
    return partial(anyio.CapacityLimiter, threads)


@final
@dataclass(frozen=True, eq=False)
class Context:
    """The service of one application. Its methods run functions in threads, so that the event loop never waits."""

    service: RecallService
    cache: AnswerCache
    metrics: Metrics
    rates: Rates
    decoding: DecodingShares
    feeds: JobFeeds
    predictions: PredictionQueue
    written: WrittenRecords = field(default_factory=partial(WrittenRecords, WRITTEN_BYTES))
    limiter: anyio.CapacityLimiter = field(default_factory=_limiter(CONCURRENT))
    parsers: anyio.CapacityLimiter = field(default_factory=_limiter(PARSERS))
    submissions: anyio.CapacityLimiter = field(default_factory=_limiter(SUBMISSIONS))
    lookups: anyio.CapacityLimiter = field(default_factory=_limiter(LOOKUPS))

    @classmethod
    def of(cls, service: RecallService) -> Context:
        """The context of a new application."""
        settings = service.settings
        cache = AnswerCache(settings.cache_bytes)
        metrics = Metrics(service, cached_bytes=lambda: cache.bytes)
        rates = Rates(rate(settings.request_rate), rate(settings.work_rate))
        decoding, batches = DecodingShares(settings.max_request_pixels), service.batches
        predictions = PredictionQueue(batches.predict, batches.key)
        return cls(service, cache, metrics, rates, decoding, JobFeeds(service.jobs), predictions)

    @property
    def settings(self) -> Settings:
        return self.service.settings

    async def run(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Compute in a thread; raises Overloaded where too many requests wait for one."""
        return await self._run_in(self.limiter, partial(function, *args, **kwargs))

    async def submit(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Like `run`, in the threads of trainings that are submitted."""
        return await self._run_in(self.submissions, partial(function, *args, **kwargs))

    async def _run_in(self, limiter: anyio.CapacityLimiter, function: Callable[[], Result]) -> Result:
        _check_line(limiter)
        return await compute(function, limiter)

    async def run_for(self, request: Request, function: Callable[[Upload], Result], *, submits: bool = False) -> Result:
        """`run` or, if it `submits`, `submit`, given up when the caller leaves.

        `function` is told so, and charges the caller for decoding.

        Raises ClientDisconnect where the caller left first.
        """
        gone = threading.Event()
        with self._charging(request) as charge, anyio.CancelScope() as scope:  # which never leaves a thread behind
            upload = Upload(wanted=lambda: not gone.is_set(), charge=charge)
            leaving = asyncio.create_task(_tell_when_left(request, gone, scope))
            try:
                return await self._run_in(self.submissions if submits else self.limiter, partial(function, upload))
            finally:
                leaving.cancel()
        raise ClientDisconnect

    async def predict(
        self, request: Request, identifier: str, pictures: Sequence[Picture], top: int | None
    ) -> Predictions:
        """The predictions for the pictures of this request, computed together with those of other requests.

        Raises ClientDisconnect where the caller left first, Overloaded, and errors as `BatchPredictor.decode`.
        """
        gone = threading.Event()
        with self._charging(request) as charge:
            asked = PredictionRequest(identifier, pictures, top, Upload(lambda: not gone.is_set(), charge))
            try:
                return await _while_waited_for(request, self.predictions.submit(asked))
            except MustBeDecodedFirst:
                pass
            finally:
                gone.set()
        decode = self.service.batches.decode
        decoded = await self.run_for(request, lambda upload: decode(replace(asked, upload=upload)))
        return joined([await _while_waited_for(request, self.predictions.submit(part)) for part in decoded.parts()])

    @contextlib.contextmanager
    def _charging(self, request: Request) -> Iterator[Callable[[int], None]]:
        """A function that charges the caller for decoding; the pixels are given back at the end."""
        caller = request.scope.get(CALLER, "")
        with self.decoding.share(caller) as share:

            def charge(work: int) -> None:
                share.take(work)
                self.rates.pay(caller, math.ceil(work / PIXELS_PER_PICTURE))

            yield charge

    async def look(self, function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Ask the job table or the disk in a thread that none of the computing requests waits for."""
        return await compute(partial(function, *args, **kwargs), self.lookups)

    async def parse(self, function: Callable[[], Result]) -> Result:
        """Parse a large body in a thread, one at a time."""
        return await compute(function, self.parsers)

    def busy(self) -> bool:
        """Whether threads compute for requests."""
        return any(limiter.borrowed_tokens for limiter in (self.limiter, self.submissions))

    def drop_unused(self, seconds: float) -> None:
        """Forget what is kept for answers and was not needed for so long."""
        self.cache.drop_unused(seconds)
        self.written.drop_unused(seconds)

    def check_threads(self) -> None:
        """Raises Overloaded where `run` or `predict` would."""
        _check_line(self.limiter)
        self.predictions.check()

    def pay(self, request: Request, pictures: int) -> None:
        """Charge the caller of a request for the pictures that it computed."""
        self.rates.pay(request.scope.get(CALLER, ""), pictures)

    def disk_is_low(self) -> bool:
        """Whether less space is free than the operator wants to keep, or the disk does not say."""
        try:
            return shutil.disk_usage(self.settings.state).free < self.settings.min_free_bytes
        except OSError:
            return True


def _check_line(limiter: anyio.CapacityLimiter) -> None:
    waiting = limiter.statistics().tasks_waiting
    if waiting >= LONGEST_LINE:
        raise Overloaded(f"{waiting} requests wait to be computed", retry_after=2)


async def _tell_when_left(request: Request, gone: threading.Event, scope: anyio.CancelScope) -> None:
    """Set `gone` and cancel the scope when the caller closes the connection. The body must have been read."""
    await _left(request)
    gone.set()
    scope.cancel()


async def _while_waited_for(request: Request, predictions: asyncio.Future[Predictions]) -> Predictions:
    """The predictions, given up when the caller leaves. Raises ClientDisconnect. The body must have been read."""
    try:
        await asyncio.wait({predictions}, timeout=MOMENT)
        if not predictions.done():
            left = asyncio.create_task(_left(request))
            either: list[asyncio.Future[Any]] = [predictions, left]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
        if not predictions.done():
            raise ClientDisconnect
        return predictions.result()
    finally:
        predictions.cancel()


async def _left(request: Request) -> None:
    """Return when the caller closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _context(request: Request) -> Context:  # FastAPI would call a function in a thread
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Served = Annotated[Context, Depends(_context)]
