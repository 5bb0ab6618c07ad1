"""The wire: sends a `Request`, and turns what goes wrong into this client's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from .answers import raise_for_problem
from .errors import AnswerTimeout, NoAnswer
from .requests import Request


class Connection:
    """A pool of connections to one server. Safe to share between threads."""

    def __init__(
        self, base_url: str, *, timeout: float, headers: Mapping[str, str], transport: httpx2.BaseTransport | None
    ) -> None:
        self.base_url = base_url
        self._timeout = timeout
        self._http = httpx2.Client(base_url=base_url, headers=dict(headers), transport=transport)

    def close(self) -> None:
        self._http.close()

    def send(self, request: Request) -> httpx2.Response:
        """The answer, fully read. Raises NoAnswer, or the Problem that the answer reports."""
        with self._errors_of(request):
            response = self._http.request(request.method, request.path, **self._arguments(request))
        raise_for_problem(response)
        return response

    @contextmanager
    def stream(self, request: Request) -> Iterator[httpx2.Response]:
        """The answer with its body still to be read, for what may be large. Raises as `send` does."""
        with self._errors_of(request):
            with self._http.stream(request.method, request.path, **self._arguments(request)) as response:
                if not response.is_success:
                    response.read()
                    raise_for_problem(response)
                yield response

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "params": request.parameters,
            "headers": dict(request.headers),
            "timeout": httpx2.Timeout(self._timeout, read=self._timeout + request.patience),
        }
        if request.json is not None:
            arguments["json"] = request.json
        if request.parts:
            arguments["files"] = [(name, (upload.filename, upload.data)) for name, upload in request.parts]
        return arguments

    @contextmanager
    def _errors_of(self, request: Request) -> Iterator[None]:
        asked = f"{request.method} {self.base_url}{request.path}"
        try:
            yield
        except httpx2.TimeoutException as error:
            raise AnswerTimeout(f"{asked} was not answered within {self._timeout + request.patience:g} s") from error
        except httpx2.RequestError as error:
            raise NoAnswer(f"{asked} got no answer ({error}); is the server running?") from error
