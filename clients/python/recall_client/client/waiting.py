"""Following a training to its end: by asking for its state, or by its stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from recall_client.connection.retries import Outage
from recall_client.connection.server import Server
from recall_client.errors import (
    NoAnswer,
    RecallError,
    StillTraining,
    TrainingCancelled,
    UnexpectedAnswer,
    training_failure,
)
from recall_client.messages.answers import parse_json
from recall_client.messages.models import ClassifierState, Event
from recall_client.messages.request import Request, classifier_path

OnProgress: TypeAlias = "Callable[[ClassifierState], object]"

_HOLD = 20.0  # seconds that the server may hold an answer back: shorter than the time-outs of common proxies
_HOLD_WATCHED = 1.0  # the same while the caller watches the progress
_PAUSE = 0.25  # seconds between requests to a server that does not hold its answers back
_HEARTBEAT = 20.0  # seconds of silence to expect of a stream of events: the server sends a comment every 15
_ENDED = ("succeeded", "failed", "cancelled")


async def wait(
    server: Server, state: ClassifierState, timeout: float | None, on_state: OnProgress, *, watched: bool
) -> None:
    """Return when the training has ended; `on_state` is called with every state, about once a second if `watched`.

    An outage of the server is waited for. Raises StillTraining after `timeout` seconds, None for never.
    """
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    longest, outage, once = _HOLD_WATCHED if watched else _HOLD, Outage(server.retries), server.without_retries()
    while not state.is_terminal:
        asked_at = time.monotonic()
        hold = max(0.0, min(longest, deadline - asked_at))
        failure: RecallError | None = None
        try:
            state = await once.parsed(_state_request(state.id, hold), ClassifierState)
        except RecallError as error:
            failure, next_at = error, time.monotonic() + outage.failed(error)
        else:
            outage.over()
            on_state(state)
            next_at = asked_at + min(hold, _PAUSE)
        if not state.is_terminal:
            if time.monotonic() >= deadline:
                message = f"classifier {state.id} is still {state.status} after {timeout:g} s"
                message += f"; the last request failed: {failure}" if failure else ""
                raise StillTraining(message) from failure
            await server.connection.sleep(max(0.0, min(next_at, deadline) - time.monotonic()))


def check_trained(state: ClassifierState) -> None:
    """Raise TrainingFailed or TrainingCancelled for a training that ended without a classifier."""
    if state.status == "failed":
        kind, reason = (state.error.type, state.error.detail) if state.error else ("", "the server gave no reason")
        raise training_failure(kind, f"classifier {state.id} failed: {reason}")
    if state.status != "succeeded":
        raise TrainingCancelled(f"classifier {state.id} was {state.status}")


async def follow(server: Server, identifier: str, after: int) -> AsyncGenerator[Event, None]:
    """Yield the events after number `after` in order, each once, over however many connections that takes."""
    outage, once = Outage(server.retries), server.without_retries()
    while True:
        try:
            async with aclosing(_one_stream(once, identifier, after, outage)) as events:
                async for event in events:
                    after = event.number
                    yield event
            return
        except RecallError as failure:
            pause = outage.failed(failure)
        await server.connection.sleep(pause)


async def _one_stream(server: Server, identifier: str, after: int, outage: Outage) -> AsyncGenerator[Event, None]:
    """Yield events until the training has ended. Raises NoAnswer where the stream ends before it."""
    request = _events_request(identifier, after)
    async with server.open(request) as response:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code == 204:  # it has ended, and there are no events after this one
            return
        if kind != "text/event-stream":
            raise UnexpectedAnswer(f"the answer to {server.describe(request)} is {kind or 'empty'}, not events")
        outage.over()
        async with aclosing(server.connection.events(response)) as messages:
            async for message in messages:
                outage.over()
                if not message.data:
                    continue
                event = parse_json(message.data, Event, of=f"an event of classifier {identifier}")
                if event.number > after:
                    yield event
                    if event.kind == "status" and event.status in _ENDED:
                        return
    raise NoAnswer(f"{server.describe(request)} broke off before the training ended")


def _state_request(identifier: str, hold: float) -> Request:
    """Return the request for the state, held back by the server until training ends or `hold` seconds have passed."""
    headers = {"Prefer": f"wait={hold:.3f}"} if hold else {}
    return Request("GET", classifier_path(identifier), headers=headers, hold=hold)


def _events_request(identifier: str, after: int) -> Request:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
    return Request("GET", classifier_path(identifier, "events"), headers=headers, hold=_HEARTBEAT)
