"""Every route demands what it declares, of every caller, however the path is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from recall_server.api.guards.access import READ, Access, GuardedRoute, access, access_of
from recall_server.api.guards.early import Early
from recall_server.config.api_keys import Scope as KeyScope
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import problem
from tests.recall_server.serving_examples import ManualBackend

KEYS = {
    KeyScope.READ: "read-0123456789abcdef",
    KeyScope.TRAIN: "train-0123456789abcdef",
    KeyScope.ADMIN: "admin-0123456789abcdef",
}
API_KEYS = ",".join(f"{scope.name}:{scope.name.lower()}:{key}" for scope, key in KEYS.items())
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "MADEUP")
CONTROL = [chr(code) for code in (*range(32), 127, 0x85, 0x2028, 0x2029)]
VARIANTS = ("{}", "{}/", "/{}", "{}//", "{}/.", "{}/x", "{};x", "{}%0A", "{}%2F", "{}\ufffd", "/x/..{}", "{} ")
LABELS = {"labels": ["left", "right"]}


class Probed(NamedTuple):
    """An application, and one event loop for the thousands of requests to it."""

    client: TestClient
    loop: asyncio.Runner


def guarded_routes(client: TestClient) -> Iterator[tuple[str, str, Access]]:
    """Path, method and declared access of every route of the application."""
    assert isinstance(client.app, FastAPI)
    for context in iter_route_contexts(client.app.routes):
        route: Any = context.original_route
        assert isinstance(route, GuardedRoute), route
        for method in route.methods:
            yield route.path, method, access_of(route.endpoint)


def ask(probed: Probed, method: str, path: str, key: str | None) -> tuple[int, str]:
    """The status of an answer, and the path and method of the route that gave it; "" where none did."""
    headers = [(b"host", b"127.0.0.1")] + ([] if key is None else [(b"x-api-key", key.encode())])
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "root_path": ""}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope |= {"client": ("127.0.0.1", 1), "scheme": "http", "http_version": "1.1"}
    probed.loop.run(probed.client.app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]).get(b"x-reached", b"").decode()


@pytest.fixture
def probed(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> Iterator[Probed]:
    """An application with keys whose routes only tell that they were reached."""

    async def answer(self: GuardedRoute, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope["method"] in self.methods
        headers = {"x-reached": f"{scope['method']} {self.path}"} if allowed else {}
        await Response(status_code=200 if allowed else 405, headers=headers)(scope, receive, send)

    async def leave(self: Early, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    monkeypatch.setattr(GuardedRoute, "answer", answer)
    monkeypatch.setattr(Early, "__call__", leave)
    monkeypatch.setattr("recall_server.api.routes.known_recalls.RecallRoute.answer", answer)
    with asyncio.Runner() as loop:
        yield Probed(open_app(api_keys=API_KEYS), loop)


def test_an_endpoint_without_a_declared_scope_needs_admin() -> None:
    @access(READ)
    async def declared() -> None: ...

    async def silent() -> None: ...

    assert access_of(declared) == READ
    assert access_of(silent) == Access(KeyScope.ADMIN)


def test_a_new_post_route_refuses_read_and_train_keys(open_app: Open) -> None:
    client = open_app(api_keys=API_KEYS)
    assert isinstance(client.app, FastAPI)
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/new", lambda: {}, methods=["POST"])
    client.app.include_router(router)
    for scope, status in ((KeyScope.READ, 403), (KeyScope.TRAIN, 403), (KeyScope.ADMIN, 200)):
        assert client.post("/new", headers={"X-API-Key": KEYS[scope]}).status_code == status


def test_every_route_accepts_exactly_the_scopes_that_it_declares(probed: Probed) -> None:
    table = {f"{method} {path}": needed for path, method, needed in guarded_routes(probed.client)}
    assert len(table) > 20
    reached: set[str] = set()
    for path, method, needed in guarded_routes(probed.client):
        for scope in (None, *KeyScope):
            enough = needed.scope is None or (scope is not None and scope >= needed.scope)
            status, route = ask(probed, method, path, KEYS[scope] if scope else None)
            assert route == (f"{method} {path}" if enough else ""), (method, path, scope)
            assert status == (200 if enough else 401 if scope is None else 403), (method, path, scope)
            reached.add(route)
    assert reached - {""} == set(table)


@pytest.mark.parametrize("variant", [*VARIANTS, *("{}" + each for each in CONTROL)], ids=ascii)
def test_no_spelling_of_a_path_bypasses_the_scope_of_its_route(probed: Probed, variant: str) -> None:
    table = {f"{method} {path}": needed for path, method, needed in guarded_routes(probed.client)}
    for path in {path for path, _, _ in guarded_routes(probed.client)}:
        for method in METHODS if variant in VARIANTS else ("GET", "POST"):
            for scope in (None, KeyScope.READ, KeyScope.TRAIN):
                spelt = variant.format(path)
                status, route = ask(probed, method, spelt, KEYS[scope] if scope else None)
                assert status in (200, 307, 401, 403, 404, 405), (method, spelt, scope)
                if route:
                    needed = table[route].scope
                    assert needed is None or (scope is not None and scope >= needed), (method, spelt, scope)
                if any(character in spelt for character in CONTROL):
                    assert status == 404, (method, spelt, scope)


@pytest.mark.parametrize("suffix", ["%0A", "%0D", "%00", "%1F", "%7F", "%C2%85", "%E2%80%A8"])
def test_control_characters_in_paths_do_not_let_a_read_key_train_or_cancel(
    open_app: Open, backend: ManualBackend, suffix: str
) -> None:
    backend.eager = False
    client = open_app(api_keys=API_KEYS)
    job = client.post("/classifier", json=LABELS, headers={"X-API-Key": KEYS[KeyScope.TRAIN]}).json()
    client.headers["X-API-Key"] = KEYS[KeyScope.READ]
    for method, path in (
        ("POST", "/classifier"),
        ("POST", f"/classifier/{job['id']}/cancel"),
        ("DELETE", f"/classifier/{job['id']}"),
        ("GET", "/recall"),
    ):
        answer = client.request(method, f"{path}{suffix}?labels=left", json=LABELS if method == "POST" else None)
        assert answer.status_code == 404, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
    assert [each["status"] for each in client.get("/classifier").json()["classifiers"]] == ["queued"]


def test_an_encoded_slash_reaches_the_same_route_with_the_same_scope(open_app: Open) -> None:
    client = open_app(api_keys=API_KEYS)
    made = client.post("/classifier", json=LABELS, headers={"X-API-Key": KEYS[KeyScope.TRAIN]}).json()["id"]
    answer = client.post(f"/classifier%2F{made}%2Fcancel", headers={"X-API-Key": KEYS[KeyScope.READ]})
    problem(answer, 403, "forbidden")


def test_admission_applies_to_every_spelling_of_a_path(open_app: Open, backend: ManualBackend) -> None:
    backend.eager = False
    client = open_app(queue_limit=1)
    assert client.post("/classifier", json=LABELS).status_code == 202
    for path in ("/classifier", "/classifier%0A", "/classifier/", "/%63lassifier"):
        answer = client.post(path, json=LABELS | {"seed": 1})
        assert answer.status_code in (404, 429), path
