"""How the tests ask."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from httpx2 import Response

from tests.recall_server.serving_examples import picture, png

WAIT = {"Prefer": "wait=30"}
Part = tuple[str, tuple[str, bytes, str]]


def parts(*labels: str, count: int = 2, seed: int = 100, name: str | None = None) -> list[Part]:
    """Multipart parts: `count` pictures of each label, in parts called as the label, or `name`."""
    return [
        (name or label, (f"{label}{index}.png", png(picture(label, seed + index)), "image/png"))
        for label in labels
        for index in range(count)
    ]


def trained(client: TestClient, **request: Any) -> dict[str, Any]:
    """The body of a POST /classifier that trained one."""
    answer = client.post("/classifier", headers=WAIT, **request)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def problem(response: Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must be one, of this kind."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == response.request.url.path
    return document
