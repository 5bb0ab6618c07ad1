"""Requests for classifiers that are refused, with nothing queued."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import Part, parts, problem
from tests.recall_server.api.routes.test_classifiers import file_part
from tests.recall_server.serving_examples import picture, png

NOTHING: dict[str, Any] = {"classifiers": [], "next": None}


BOMB_SIDE = 9000


@pytest.mark.parametrize(
    ("body", "slug", "sentence"),
    [
        ({"labels": []}, "invalid-request", "needs two or more; this request names none"),
        ({"labels": ["left"]}, "invalid-request", "needs two or more; this request names one"),
        ({"labels": ["left", "left"]}, "invalid-request", "named twice"),
        ({"labels": ["left", "upp"]}, "unknown-label", "no loaded bundle knows the label 'upp'"),
        ({"labels": ["left", "middle"], "strict": True}, "ambiguous-label", "places:middle, columns:middle"),
        ({"labels": ["left", 3]}, "invalid-request", "labels.1: Input should be a valid string"),
        ({"labels": "left,right"}, "invalid-request", "labels: Input should be a valid list"),
        ({"labels": ["left", "right"], "seed": -1}, "invalid-request", "seed: Input should be greater"),
        ({"labels": ["left", "right"], "steps": 5}, "invalid-request", "steps: Extra inputs are not permitted"),
        ({"labels": ["left", "right"], "bundle": "nowhere"}, "invalid-request", "no bundle is named 'nowhere'"),
        ({}, "invalid-request", "labels: Field required"),
    ],
)
def test_bad_labels_are_refused_and_nothing_is_queued(
    client: TestClient, body: dict[str, Any], slug: str, sentence: str
) -> None:
    assert sentence in problem(client.post("/classifier", json=body), 422, slug)["detail"]
    assert client.get("/classifier").json() == NOTHING


@pytest.mark.parametrize(
    ("extra", "status", "slug", "sentence"),
    [
        ([], 422, "invalid-request", "needs two or more; this request names one"),
        ([file_part("right", b"")], 422, "unreadable-picture", "the picture 'right.png' of the part 'right' is empty"),
        ([file_part("right", b"GIF89a")], 422, "unreadable-picture", "is no JPEG, PNG or WebP picture"),
        ([file_part("right", png(picture("left", 1))[:60])], 422, "unreadable-picture", "is damaged"),
        ([file_part("a,b", png(picture("left", 1)))], 422, "invalid-request", "'a,b' cannot name a class"),
        ([("right", (None, b"text", ""))], 422, "invalid-request", "the part 'right' is text; send each picture as"),
    ],
)
def test_bad_pictures_are_refused_and_nothing_is_queued(
    client: TestClient, extra: list[Part], status: int, slug: str, sentence: str
) -> None:
    answer = client.post("/classifier", files=[*parts("left"), *extra])
    assert sentence in problem(answer, status, slug)["detail"]
    assert client.get("/classifier").json() == NOTHING


def test_a_picture_of_81_million_pixels_is_refused(client: TestClient) -> None:
    bomb = png(np.zeros((BOMB_SIDE, BOMB_SIDE), dtype=np.uint8))
    assert len(bomb) < 100_000
    document = problem(
        client.post("/classifier", files=[*parts("left"), file_part("right", bomb)]), 413, "picture-too-large"
    )
    assert "at 9000x9000" in document["detail"]


def test_pictures_are_refused_if_no_memory_takes_them(client: TestClient) -> None:
    answer = client.post("/classifier?bundle=columns&addressing=images", files=parts("left", "right"))
    assert "'columns' is addressed by labels" in problem(answer, 422, "unsupported-query")["detail"]


def test_a_form_without_parts_and_a_broken_form_are_refused(client: TestClient) -> None:
    empty = client.post(
        "/classifier", content=b"--x--\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert "names none" in problem(empty, 422, "invalid-request")["detail"]
    for media in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.post("/classifier", content=b"--y\r\nnonsense", headers={"Content-Type": media})
        problem(answer, 400, "invalid-request")


def test_too_many_parts_are_refused_while_they_are_read(open_app: Open) -> None:
    answer = open_app(max_pictures=3).post("/classifier", files=parts("left", "right"))
    assert "more than 3 files" in problem(answer, 400, "invalid-request")["detail"]
