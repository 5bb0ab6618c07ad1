"""How requests fail: problem documents, answers of foreign servers, and arguments of a client."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import AsyncRecallClient, RecallClient
from tests.clients.client.test_client import RECALLED


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (422, "invalid-request", "InvalidRequest"),
        (400, "invalid-request", "InvalidRequest"),
        (422, "unknown-label", "UnknownLabel"),
        (422, "ambiguous-label", "AmbiguousLabel"),
        (422, "unreadable-picture", "UnreadablePicture"),
        (422, "unsupported-query", "UnsupportedQuery"),
        (413, "picture-too-large", "PictureTooLarge"),
        (413, "body-too-large", "BodyTooLarge"),
        (404, "not-found", "NotFound"),
        (409, "not-ready", "NotReady"),
        (507, "storage-failed", "StorageFailed"),
        (500, "internal-error", "ServerFailed"),
        (422, "of-a-later-server", "InvalidRequest"),
        (401, "unauthorised", "Unauthorised"),
        (403, "forbidden", "Forbidden"),
        (409, "conflict", "Conflict"),
        (429, "overloaded", "Overloaded"),
        (503, "unavailable", "Unavailable"),
        (401, "of-a-later-server", "Unauthorised"),
        (403, "of-a-later-server", "Forbidden"),
        (405, "method-not-allowed", "InvalidRequest"),
        (406, "not-acceptable", "InvalidRequest"),
        (408, "request-timeout", "InvalidRequest"),
        (409, "of-a-later-server", "Problem"),
        (415, "unsupported-media-type", "InvalidRequest"),
        (429, "of-a-later-server", "Overloaded"),
        (502, "of-a-later-server", "ServerFailed"),
        (503, "of-a-later-server", "Unavailable"),
    ],
)
def test_each_problem_type_is_its_own_error(
    server: Any, client: RecallClient, status: int, kind: str, expected: str
) -> None:
    server.refuse("GET", "/recall", status, kind, parameter="labels")
    with pytest.raises(recall_client.Problem, match=f"^about {kind}$") as caught:
        client.recall(["Sneaker"])
    assert type(caught.value).__name__ == expected
    assert (caught.value.status, caught.value.parameter) == (status, "labels")


def test_errors_include_suggestions(server: Any, client: RecallClient) -> None:
    server.refuse("GET", "/recall", 422, "unknown-label", suggestions=["Sneaker"])
    with pytest.raises(recall_client.UnknownLabel) as unknown:
        client.recall(["Snaeker"])
    assert unknown.value.suggestions == ("Sneaker",)
    server.refuse("GET", "/recall", 422, "ambiguous-label", candidates=["a:Bag", "b:Bag"])
    with pytest.raises(recall_client.AmbiguousLabel) as ambiguous:
        client.recall(["Bag"])
    assert ambiguous.value.candidates == ("a:Bag", "b:Bag")
    server.refuse("GET", "/recall", 422, "invalid-request", errors=[{"parameter": "seed", "detail": "too small"}])
    with pytest.raises(recall_client.InvalidRequest, match="about invalid-request; seed: too small"):
        client.recall(["Bag"], seed=-1)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>"),
        ({"Content-Type": "application/problem+json"}, b"{broken"),
        ({"Content-Type": "application/problem+json"}, b'{"detail": 7}'),
        ({}, b""),
    ],
)
def test_an_error_of_a_proxy_names_the_request(
    server: Any, client: RecallClient, headers: dict[str, str], content: bytes
) -> None:
    server.on("GET", "/info", httpx2.Response(502, headers=headers, content=content))
    with pytest.raises(recall_client.ServerFailed, match="GET http://fake/info was answered 502 Bad Gateway"):
        client.info()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            httpx2.Response(200, content=b"<html>"),
            "GET http://fake/bundles does not have the expected form; body: ",
        ),
        (
            httpx2.Response(200, headers={"Content-Type": "text/html; charset=utf-8"}, content=b"<h1>Log in</h1>"),
            "GET http://fake/bundles is text/html, not application/json; is it a recall server?",
        ),
        (httpx2.Response(200, json={"bundles": [{"name": "a"}]}), "bundles.0.sha256: Field required"),
        (httpx2.Response(302, headers={"Location": "/login"}), "status 302"),
    ],
)
def test_an_answer_of_a_foreign_server_is_refused(
    server: Any, client: RecallClient, answer: httpx2.Response, message: str
) -> None:
    server.on("GET", "/bundles", answer)
    with pytest.raises(recall_client.UnexpectedAnswer, match=message):
        client.bundles()


def test_recalled_pictures_that_are_no_data_uris_are_refused(server: Any, client: RecallClient) -> None:
    for uri in ("https://elsewhere/1.png", "data:image/png;base64,?"):
        query = RECALLED["recalled"][0] | {"images": [uri]}  # type: ignore[index,operator]
        server.on("GET", "/recall", httpx2.Response(200, json=RECALLED | {"recalled": [query]}))
        with pytest.raises(recall_client.UnexpectedAnswer, match="recalled.0.images.0"):
            client.recall(["Sneaker"])


def test_a_server_that_is_not_there_and_one_that_hangs_are_told_apart(server: Any, client: RecallClient) -> None:
    server.on("GET", "/info", httpx2.ConnectError("Connection refused"), httpx2.ReadTimeout("too slow"))
    with pytest.raises(recall_client.NoAnswer, match="GET http://fake/info got no answer .Connection refused.") as gone:
        client.info()
    assert not isinstance(gone.value, TimeoutError)
    with pytest.raises(TimeoutError, match="not answered within 30 s"):
        client.info()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "", "ftp://host", "http://", "/info", "http://host:port", "http://h/?x", "http://h#x"]
)
def test_an_invalid_server_address_is_explained(address: str) -> None:
    with pytest.raises(ValueError, match="not the address of a server"):
        RecallClient(address)
    with pytest.raises(ValueError, match="not the address of a server"):
        AsyncRecallClient(address)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"retries": -1}, "retries must be 0 or more"),
        ({"api_key": "two words"}, "API key"),
        ({"api_key": "clé"}, "API key"),
        ({"timeout": float("nan")}, "timeout must be more than 0"),
        ({"headers": {"X-Team": "été"}}, "the header 'X-Team' cannot be sent"),
        ({"headers": {"X-Team": "a\r\nHost: b"}}, "the header 'X-Team' cannot be sent"),
        ({"headers": {"X Team": "a"}}, "the header 'X Team' cannot be sent"),
    ],
)
def test_invalid_arguments_of_a_client_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RecallClient(**arguments)
    assert "two words" not in str(caught.value)  # a key does not belong into a log


def test_every_exception_is_exported_and_has_a_common_base() -> None:
    exported = [getattr(recall_client, name) for name in recall_client.__all__]
    errors = [value for value in exported if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) == 29
    assert all(issubclass(error, recall_client.RecallError) for error in errors)
