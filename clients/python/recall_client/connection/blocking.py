"""Runs exchanges in the thread that asks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, TypeVar

import httpx2

from recall_client.connection.exchange import Exchange, Next, Open, Outcome, Pause, Send, Step, Work
from recall_client.messages.requests import http_arguments

T = TypeVar("T")


class Connection:
    """A pool of connections to one server. Safe to share between threads."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def close(self) -> None:
        self._http.close()

    def run(self, exchange: Exchange[T]) -> T:
        """Everything that the exchange asks for, to its end. Raises what it raises."""
        with closing(self.session()) as session:
            return session.run(exchange)

    def session(self) -> Session:
        """For exchanges that read one answer between them; to be closed."""
        return Session(self._http)


class Session:
    """Runs exchanges one after another, and keeps an answer open between them."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._open: httpx2.Response | None = None
        self._items: Iterator[bytes | httpx2.ServerSentEvent] = iter(())

    def close(self) -> None:
        """Let go of the answer that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def run(self, exchange: Exchange[T]) -> T:
        """As `Connection.run`."""
        outcome = Outcome()
        while True:
            try:
                step = outcome.resume(exchange)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                outcome = Outcome(self._perform(step))
            except BaseException as error:  # the exchange cleans up behind itself, and raises it again
                outcome = Outcome(error=error)

    def _perform(self, step: Step) -> Any:
        match step:
            case Send(request, timeout):
                return self._http.send(self._http.build_request(**http_arguments(request, timeout)))
            case Open(request, timeout, as_events):
                return self._begin(self._http.build_request(**http_arguments(request, timeout)), as_events)
            case Next():
                return next(self._items, None)
            case Pause(seconds):
                return time.sleep(seconds)
            case Work(function):
                return function()

    def _begin(self, request: httpx2.Request, as_events: bool) -> httpx2.Response:
        self.close()
        self._open = response = self._http.send(request, stream=True)
        if not response.is_success:
            response.read()
        self._items = iter(httpx2.EventSource(response)) if as_events else response.iter_bytes()
        return response
