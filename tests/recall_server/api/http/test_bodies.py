"""Bodies whose parsing would cost far more than their size, and the character sets that a caller may name."""

from __future__ import annotations

import codecs
import time

import pytest
from fastapi.testclient import TestClient

from recall_server.api.http.bodies import LARGEST_JSON
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import parts, problem

SECONDS = 2.0  # of processor time, many times what a refusal takes
JSON = {"Content-Type": "application/json"}


def numbers(count: int) -> str:
    return ",".join(["1"] * count)


def keys(count: int, value: str) -> str:
    return ",".join(f'"{number}":{value}' for number in range(count))


HOSTILE = {
    "two million labels that are numbers": ("/classifier", f'{{"labels": [{numbers(2_000_000)}]}}', 422),
    "numbers for labels": ("/classifier", f'{{"labels": [{numbers(300_000)}]}}', 422),
    "empty labels": ("/classifier", f'{{"labels": [{",".join(["[]"] * 300_000)}]}}', 422),
    "bad weights": ("/recall", f'{{"mixtures": [{{{keys(250_000, chr(34) * 2)}}}]}}', 422),
    "many bad mixtures": ("/recall", f'{{"mixtures": [{",".join(["{}"] * 9_999)}, 1]}}', 422),
    "bad numbers": ("/recall", f'{{"vectors": [[{",".join(["null"] * 300_000)}]]}}', 422),
    "many vectors": ("/recall", f'{{"vectors": [{",".join(["[]"] * 300_000)}]}}', 422),
    "unknown fields": ("/recall", f"{{{keys(90_000, '1')}}}", 422),
    "one long label": ("/classifier", f'{{"labels": ["{"x" * 4_000_000}", "left"]}}', 422),
    "nested": ("/recall", '{"vectors":' + "[" * 200_000, 400),
    "escapes": ("/classifier", '{"labels": ["' + "\\u0041" * 600_000 + '"]}', 422),
    "half characters": ("/classifier", '{"labels": ["' + "\\ud800" * 600_000 + '"]}', 400),
    "too many bytes": ("/recall", " " * (LARGEST_JSON + 1), 413),
}


@pytest.mark.parametrize(("path", "body", "status"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_large_body_is_refused_at_its_first_fault(client: TestClient, path: str, body: str, status: int) -> None:
    sent = body.encode()
    began = time.process_time()
    answer = client.post(path, content=sent, headers=JSON)
    spent = time.process_time() - began
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 5_000
    assert spent < SECONDS


def test_large_bodies_of_honest_callers_are_read(client: TestClient) -> None:
    mixtures = {"mixtures": [{"left": 0.5, "right": 0.25, "columns:middle": 0.25}] * 5_000}
    assert client.post("/recall?per_label=1&format=safetensors", json=mixtures).status_code == 200
    vectors = {"vectors": [[0.123456789, 0.987654321, 0.5]] * 9_000}
    answer = client.post("/recall?bundle=columns&per_label=1&format=safetensors", json=vectors)
    assert "larger table" in problem(answer, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("name", ["utf-8", "UTF-8", '"utf-8"', "us-ascii", "ISO-8859-1"])
def test_common_character_sets_may_be_named(client: TestClient, name: str) -> None:
    media = {"Content-Type": f"multipart/form-data; boundary=x; charset={name}"}
    assert client.post("/recall", content=form("left"), headers=media).status_code == 200
    media = {"Content-Type": f"application/json; charset={name}"}
    assert client.post("/recall", content=b'{"mixtures": [{"left": 1}]}', headers=media).status_code == 200


@pytest.mark.parametrize(
    "name", ["undefined", "punycode", "idna", "unicode_escape", "utf-7", "hex", "zip", "mbcs", "\xff", "x" * 3_000, ""]
)
@pytest.mark.parametrize("media", ["multipart/form-data; boundary=x", "application/json"])
def test_other_character_sets_are_refused(open_app: Open, media: str, name: str) -> None:
    client = open_app()
    made = client.post("/classifier", json={"labels": ["left", "right"]}).json()["links"]
    for path in ("/recall", "/classifier", made["predict"]):
        headers = {b"Content-Type": f"{media}; charset={name}".encode("latin-1")}
        answer = client.post(path, content=form("images"), headers=headers)
        assert problem(answer, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classifier", b'{"labels": ["left", "right"]}'),
        ("/recall", b'{"mixtures": [{"left": 1}]}'),
        ("/recall?bundle=columns", b'{"vectors": [[0, 1, 0]]}'),
        ("/recall", b'{"mixtures": [{"left": 1}' + b', {"left": 1}' * 2000 + b"]}"),  # parsed in a thread
    ],
)
def test_a_byte_order_mark_before_json_is_no_part_of_it(client: TestClient, path: str, body: bytes) -> None:
    for mark in (codecs.BOM_UTF8, b""):
        assert client.post(path, content=mark + body, headers=JSON).is_success
    for mark in (codecs.BOM_UTF8 * 2, codecs.BOM_UTF16_LE):
        problem(client.post(path, content=mark + body, headers=JSON), 400, "invalid-request")


def form(name: str) -> bytes:
    """A form with one picture, whose boundary is x."""
    (_, (filename, data, media)) = parts("left", count=1)[0]
    head = (
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {media}\r\n\r\n'
    )
    return head.encode() + data + b"\r\n--x--\r\n"
