"""What is always answered in the same way is answered before the request is parsed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from recall_server.api.guards.early import Early
from recall_server.api.routes import operations
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.guards.test_observed import value


async def unreachable(scope: Scope, receive: Receive, send: Send) -> None:
    raise LookupError("the router was asked")


def answer(scope: dict[str, Any]) -> list[Message]:
    """The messages of the answer to a request before an application that cannot answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing of the request is read")

    early = Early(unreachable, operations.LIVE_ROUTES, b'"live"')
    asyncio.run(early({"type": "http", "method": "GET", "root_path": "", **scope}, receive, send))
    return sent


def test_liveness_needs_no_router() -> None:
    for scope in ({"path": "/health/live"}, {"path": "/v2/health/live"}, {"path": "/a/health/live", "root_path": "/a"}):
        start, body = answer(scope)
        assert (start["status"], body["body"]) == (200, b'"live"')


@pytest.mark.parametrize("other", [{"path": "/health/ready"}, {"path": "/health/live/"}, {"method": "POST"}])
def test_everything_else_is_left_to_the_router(other: dict[str, Any]) -> None:
    with pytest.raises(LookupError):
        answer({"path": "/health/live"} | other)


def test_an_early_answer_is_counted_and_guarded_as_any_other(client: TestClient, open_app: Open) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert value(client, "recall_http_requests_total", route="/health/live", status="200") == 1
    assert client.get("/health/live", headers={"Host": "evil.example"}).status_code == 403
    assert client.post("/health/live").status_code == 405
    assert open_app(api_keys="a:read:0123456789abcdef0123").get("/health/live").status_code == 200
