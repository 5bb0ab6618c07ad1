"""One server: its requests with their retries, time-outs and errors, and the downloads of its files."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import IO, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel

from recall_client.connection.connection import Connection
from recall_client.connection.retries import Retries
from recall_client.errors import NoAnswer, NotFound, RecallError, UnexpectedAnswer
from recall_client.messages import answers
from recall_client.messages.request import Request

_Model = TypeVar("_Model", bound=BaseModel)

_REPR_DIGEST = re.compile(r"(?:^|[, ])sha-256=:([A-Za-z0-9+/]{43}=):")  # RFC 9530


@dataclass(frozen=True)
class Server:
    """The server at the other end of `connection`.

    Every request may be sent twice: reading and predicting change nothing, a training has its idempotency key, and a
    second cancellation or deletion changes nothing.
    """

    connection: Connection
    retries: Retries

    def without_retries(self) -> Server:
        """Return the same server for callers with retries of their own."""
        return replace(self, retries=Retries(0))

    async def ask(self, request: Request) -> httpx2.Response:
        """Return the answer, fully read. Raises NoAnswer, or the Problem that the answer reports."""
        return await self._retried(request, self.connection.send)

    async def parsed(self, request: Request, model: type[_Model]) -> _Model:
        """Return the answer as `model`. Raises as `ask` does, and UnexpectedAnswer."""
        return answers.parse(await self.ask(request), model)

    async def text(self, request: Request, media_type: str) -> str:
        """Return the answer as text. Raises as `ask` does, and UnexpectedAnswer for another media type."""
        return answers.read_text(await self.ask(request), media_type)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[httpx2.Response]:
        """Return the answer with an unread body. Raises as `ask` does, and NoAnswer where reading the body fails."""
        response = await self._retried(request, self.connection.open)
        try:
            yield response
        except httpx2.RequestError as error:
            raise self._no_answer(request, error) from error
        finally:
            await self.connection.release(response)

    async def save(self, request: Request, path: Path) -> Path:
        """Write the answer to `path`, whole or not at all, and return `path`. Raises as `receive` does, and OSError."""
        target = path.resolve()  # a symbolic link stays, and the file that it points to is replaced
        part = target.with_name(f".{uuid4().hex}.part")
        try:
            with part.open("xb") as file:
                await self.receive(request, file.write)
                await self.connection.offload(partial(_flush, file))
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return path

    async def receive(self, request: Request, write: Callable[[bytes], object]) -> None:
        """Pass the body to `write`, chunk by chunk. Raises as `open` does, and UnexpectedAnswer for a wrong digest."""
        digest = sha256()
        async with self.open(request) as response, aclosing(self.connection.chunks(response)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                write(chunk)
        expected = _expected_digest(response.headers)
        if expected not in (None, digest.hexdigest()):
            raise UnexpectedAnswer(f"{self.describe(request)} arrived damaged: its sha256 is not {expected}")

    def describe(self, request: Request) -> str:
        """Return the request as messages name it."""
        return f"{request.method} {self.connection.settings.base_url}{request.path}"

    async def _retried(
        self, request: Request, attempt: Callable[[Request], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        failures, lost = 0, False
        while True:
            failure: RecallError | None
            try:
                response = await attempt(request)
            except httpx2.RequestError as error:
                failure, lost = self._no_answer(request, error), True
            else:
                failure = answers.refusal(response)
                # An earlier try may have deleted it, and only the answer was lost.
                if failure is None or (lost and request.method == "DELETE" and isinstance(failure, NotFound)):
                    return response
            failures += 1
            pause = self.retries.pause(failures, failure)
            if pause is None:
                raise failure
            await self.connection.sleep(pause)

    def _no_answer(self, request: Request, error: httpx2.RequestError) -> NoAnswer:
        return answers.no_answer(error, self.describe(request), self.connection.settings.timeout + request.hold)


def _expected_digest(headers: Mapping[str, str]) -> str | None:
    """Return the sha256 of the body by its Repr-Digest, None where no header says it.

    The digest of a body that a proxy has compressed may be that of the compressed bytes, and is not used.
    """
    if headers.get("content-encoding", "identity") != "identity":
        return None
    announced = _REPR_DIGEST.search(headers.get("repr-digest", ""))
    return base64.b64decode(announced[1]).hex() if announced else None


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
