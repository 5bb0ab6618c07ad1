"""Asking one server: every request of every verb goes through here, with its errors, its retries and its time-outs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel

from recall_client.connection.exchange import Exchange, Next, Open, Pause, Send, Step, work
from recall_client.connection.retries import Retries
from recall_client.errors import NoAnswer, NotFound, RecallError, UnexpectedAnswer
from recall_client.messages import answers
from recall_client.messages.requests import Request

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Dialogue:
    """The server at `base_url`; `timeout` is in seconds for one answer.

    Everything may be asked twice: reading and predicting change nothing, a training has its idempotency key, and what
    is cancelled or deleted twice is cancelled or deleted.
    """

    base_url: str
    timeout: float
    retries: Retries

    def without_retries(self) -> Dialogue:
        """For who decides on further tries by other rules."""
        return replace(self, retries=Retries(0))

    def ask(self, request: Request) -> Exchange[httpx2.Response]:
        """The answer, fully read. Raises NoAnswer, or the Problem that the answer reports."""
        return (yield from self._repeated(request, lambda: Send(request, self._timeout_of(request))))

    def open(self, request: Request, *, as_events: bool = False) -> Exchange[httpx2.Response]:
        """The answer with its body still to be read by `following`. Raises as `ask` does."""
        return (yield from self._repeated(request, lambda: Open(request, self._timeout_of(request), as_events)))

    def following(self, request: Request) -> Exchange[bytes | httpx2.ServerSentEvent | None]:
        """The next item of the answer to `request`, which is open; None at its end. Raises NoAnswer."""
        try:
            item: bytes | httpx2.ServerSentEvent | None = yield Next()
        except httpx2.RequestError as error:
            raise self.no_answer(request, error) from error
        return item

    def parsed(self, request: Request, model: type[_Model]) -> Exchange[_Model]:
        """The answer as `model`. Raises as `ask` does, and UnexpectedAnswer."""
        return answers.parse((yield from self.ask(request)), model)

    def read(self, request: Request, media_type: str) -> Exchange[str]:
        """The answer as text. Raises as `ask` does, and UnexpectedAnswer for another kind of text."""
        return answers.read_text((yield from self.ask(request)), media_type)

    def save(self, request: Request, target: Path) -> Exchange[Path]:
        """Write the answer to `target`, whole or not at all, checked against the digest in its ETag."""
        part = target.with_name(f".{target.name}.{uuid4().hex}.part")
        try:
            with part.open("xb") as file:
                yield from self.receive(request, file.write)
                yield from work(lambda: _settle(file))
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return target

    def receive(self, request: Request, write: Callable[[bytes], object]) -> Exchange[None]:
        """Pass the answer to `write` piece by piece. Raises UnexpectedAnswer for another digest than its ETag's."""
        response = yield from self.open(request)
        digest = sha256()
        while isinstance(piece := (yield from self.following(request)), bytes):
            digest.update(piece)
            write(piece)
        expected = response.headers.get("etag", "").removeprefix("W/").strip('"')
        if expected and expected != digest.hexdigest():
            raise UnexpectedAnswer(f"{self.asked(request)} arrived damaged: its digest is not the {expected} announced")

    def asked(self, request: Request) -> str:
        """What messages call a request."""
        return f"{request.method} {self.base_url}{request.path}"

    def no_answer(self, request: Request, error: httpx2.RequestError) -> NoAnswer:
        """The error for a request that got no answer, or not all of it."""
        return answers.no_answer(error, self.asked(request), self._timeout_of(request))

    def _repeated(self, request: Request, step: Callable[[], Step]) -> Exchange[httpx2.Response]:
        failures, lost = 0, False
        while True:
            failure: RecallError | None
            try:
                response: httpx2.Response = yield step()
            except httpx2.RequestError as error:
                failure, lost = self.no_answer(request, error), True
            else:
                failure = answers.refusal(response)
                # An earlier try may have done it, and only its answer was lost.
                if failure is None or (lost and request.method == "DELETE" and isinstance(failure, NotFound)):
                    return response
            failures += 1
            pause = self.retries.pause(failures, failure)
            if pause is None:
                raise failure
            yield Pause(pause)

    def _timeout_of(self, request: Request) -> float:
        return self.timeout + request.patience


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
