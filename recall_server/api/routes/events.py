"""GET /classifier/{id}/events: status and progress of a training, as JSON pages or as a resumable stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from recall_server.api.guards.access import READ, GuardedRoute, access
from recall_server.api.http.negotiation import accepted, preferred_wait
from recall_server.api.http.problems import responses
from recall_server.api.http.turns import own_turn
from recall_server.api.schemas.classifier_schemas import EventAnswer, EventPage
from recall_server.api.state.context import CALLER, Context, Served
from recall_server.api.state.job_feeds import Feed
from recall_server.errors import InvalidRequest, NotFound
from recall_server.jobs.rows.records import Event

JSON, STREAM = "application/json", "text/event-stream"
SECONDS_BETWEEN_SIGNS = 15.0  # between comments on a silent stream, which proxies would otherwise close
PAGE = 100
LARGEST_NUMBER = 2**31 - 1
LINES_KEPT = 256  # cached lines: all followers of a job get the same ones

router = APIRouter(tags=["classifiers"], route_class=GuardedRoute)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "a page of events or, by Accept, server-sent events until the training ends",
        "model": EventPage,
        "content": {STREAM: {"schema": {"type": "string"}}},
    },
    204: {"description": "for a stream: the training has ended, and there is no event after Last-Event-ID"},
    **responses(404, 406, 422, 507),
}


@router.get("/classifier/{identifier}/events", responses=ANSWERS, response_class=Response)
@access(READ)
async def events(
    request: Request,
    identifier: str,
    context: Served,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST_NUMBER, description="return events with larger numbers")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = PAGE,
) -> Response:
    """Return numbered events about status and progress.

    With `Prefer: wait=N`, an empty page waits up to N seconds for an event. A stream continues after `Last-Event-ID`,
    which browsers send when they reconnect.
    """
    jobs = context.service.jobs
    if accepted(request, (JSON, STREAM)) == STREAM:
        return await _stream(request, context, identifier, _last_event(request) if after is None else after)
    found = await context.look(jobs.events, identifier, after=after or 0, limit=limit)
    seconds = preferred_wait(request, context.settings.max_wait_seconds)
    headers = {} if seconds is None else {"Preference-Applied": f"wait={seconds:g}"}
    if not found and seconds is not None:
        found = await jobs.wait_for_events(identifier, after=after or 0, seconds=seconds)
    page = EventPage(events=[EventAnswer.of(event) for event in found[:limit]])
    return Response(page.model_dump_json(), media_type=JSON, headers=headers)


async def _stream(request: Request, context: Context, identifier: str, after: int) -> Response:
    async with contextlib.AsyncExitStack() as stack:
        # Entered here so that a refusal is answered with its own status; left when the stream ends.
        feed = await stack.enter_async_context(context.feeds.stream(identifier, request.scope.get(CALLER, "")))
        found = await feed.page(after, PAGE)
        if not found and (await feed.record()).status.is_terminal:
            return Response(status_code=204)  # browsers do not reconnect after a 204
        if not found and after and not await feed.page(after - 1, 1):
            after, found = 0, await feed.page(0, PAGE)  # no event has that number, so begin with the first
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(stack.pop_all(), _lines(context, feed, found, after), headers=headers)


class _Stream(EventSourceResponse):
    """Server-sent events from a feed, which is left when the stream ends for any reason."""

    def __init__(
        self, stack: contextlib.AsyncExitStack, lines: AsyncIterator[bytes], *, headers: dict[str, str]
    ) -> None:
        super().__init__(lines, headers=headers)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _lines(context: Context, feed: Feed, found: list[Event], after: int) -> AsyncIterator[bytes]:
    """Server-sent events until the job ends or is deleted, or the server stops."""
    jobs = context.service.jobs
    while True:
        if found:
            after = found[-1].number
            await own_turn()
            yield b"".join(map(_line, found))  # one piece, since each passes through every guard
            if any(event.kind == "status" and event.status.is_terminal for event in found):
                return
        if jobs.room().reason == "draining":
            return
        try:
            found = await feed.events(after, SECONDS_BETWEEN_SIGNS)
            if not found:
                if (await feed.record()).status.is_terminal:
                    return  # the caller has seen its last event
                yield KEEPALIVE_COMMENT
        except NotFound:
            return


@lru_cache(maxsize=LINES_KEPT)
def _line(event: Event) -> bytes:
    return format_sse_event(event=event.kind, data_str=EventAnswer.of(event).model_dump_json(), id=str(event.number))


def _last_event(request: Request) -> int:
    sent = request.headers.get("last-event-id", "0")
    if not sent.isdecimal() or len(sent) > 10 or int(sent) > LARGEST_NUMBER:
        raise InvalidRequest("Last-Event-ID must be the number of an event of this training", parameter="Last-Event-ID")
    return int(sent)
