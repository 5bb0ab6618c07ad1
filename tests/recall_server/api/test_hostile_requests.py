"""Requests that no decent client sends: each gets an answer or a closed connection, and the next one is served."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Request

from tests.recall_server.api.conftest import Open
from tests.recall_server.api.live import exchange, listening
from tests.recall_server.api.requests import parts
from tests.suite.needs import needs_proc

Address = tuple[str, int]

BOUNDARY = "frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
FUZZED = int(os.environ.get("RECALL_FUZZED_BODIES", "400"))  # 10000 before a release
MEMORY_FOR_FUZZ = 100 * 2**20
TOKENS = (b"\r\n", b"--frontier", b'"', b"}", b"[" * 50, b"\x00", b"NaN", b"1e999")
ROUTES = ("/recall", "/recall?bundle=columns", "/classifier", "/classifier/{id}/predict", "/classifier/{id}/explain")


@pytest.fixture
def address(open_app: Open) -> Iterator[Address]:
    client = open_app(max_body_bytes=200_000, max_body_seconds=0.5)
    with listening(client.app) as address:
        yield address
        assert status(exchange(address, request(b"", length=0, path="/recall?labels=left", method="GET"))) == 200


def request(body: bytes, *, length: int, path: str = "/recall", method: str = "POST", media: str = FORM) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def status(answer: bytes) -> int:
    """Of the first answer; 0 where the connection was closed without one."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def form(*, labels: tuple[str, ...] = ("left", "right"), name: str | None = None) -> bytes:
    """The bytes of a good form."""
    boundary = {"Content-Type": FORM}
    return Request("POST", "http://x", files=parts(*labels, name=name), headers=boundary).read()


@pytest.mark.parametrize("cut", [1, 40, 120, 400, -60, -4])
def test_a_form_that_is_cut_off_is_refused(address: Address, cut: int) -> None:
    body = form()[:cut]
    assert status(exchange(address, request(body, length=len(body)))) in (400, 422)
    assert status(exchange(address, request(body, length=len(body), path="/classifier"))) in (400, 422)


def test_a_form_that_ends_without_a_last_line_break_is_whole(address: Address) -> None:
    body = form().removesuffix(b"\r\n")
    assert status(exchange(address, request(body, length=len(body)))) == 200


def test_a_content_length_larger_than_the_body_is_handled(address: Address) -> None:
    body = form()
    assert status(exchange(address, request(body, length=len(body) + 5000), hang_up=True)) in (0, 400)
    assert status(exchange(address, request(body, length=len(body) + 5000))) == 408


def test_a_content_length_smaller_than_the_body_is_handled(address: Address) -> None:
    body = form()
    assert status(exchange(address, request(body, length=len(body) // 2))) in (400, 422)


def test_contradicting_lengths_are_refused(address: Address) -> None:
    double = b"POST /recall HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"
    smuggled = (
        b"POST /recall HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    for sent in (double, smuggled):
        answer = exchange(address, sent)
        assert status(answer) == 400, answer
        assert b'"limits"' not in answer


def test_chunks_without_end_are_counted(address: Address) -> None:
    head = f"POST /recall HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = (b"fa0\r\n" + b"x" * 4000 + b"\r\n") * 100
    assert status(exchange(address, head.encode() + endless)) in (400, 413)


def test_an_upload_that_trickles_is_cut_off_in_time(address: Address) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request(b"--frontier\r\n", length=100_000))
        began = time.monotonic()
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        answer = b""
        while b"}" not in answer and (piece := connection.recv(65536)):  # head and body may come apart
            answer += piece
        stop.set()
        thread.join()
    assert status(answer) == 408, answer
    assert b"request-timeout" in answer
    assert time.monotonic() - began < 10


def test_bytes_that_are_not_http_are_refused(address: Address) -> None:
    for sent in (b"\x16\x03\x01\x02\x00", b"\x00" * 1000, b"GET / HTTP/x\r\n\r\n", b"x" * 100_000):
        assert status(exchange(address, sent)) in (0, 400)


def test_endless_headers_are_refused(address: Address) -> None:
    many = b"".join(b"x-%d: y\r\n" % number for number in range(20_000))
    assert status(exchange(address, b"GET /recall?labels=left HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")) in (
        0,
        400,
        431,
    )
    long = b"GET /recall?labels=" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status(exchange(address, long)) in (400, 414, 422)


def mutated(body: bytes, chance: random.Random) -> bytes:
    """The body with one to four faults."""
    data = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data) + 1)
        piece = slice(start, start + chance.randint(0, 80))
        match chance.randrange(6):
            case 0:
                data[piece] = b""
            case 1:
                data[start:start] = data[piece] * chance.randint(1, 20)
            case 2:
                data[piece] = chance.randbytes(chance.randint(0, 40))
            case 3:
                data = data[: max(1, start)]
            case 4:
                data[start:start] = chance.choice(
                    [b"\r\n", b"--frontier", b'"', b"}", b"[" * 50, b"\x00", b"NaN", b"1e999"]
                )
            case _:
                for position in range(start, min(start + 5, len(data))):
                    data[position] ^= 1 << chance.randrange(8)
    return bytes(data)


@needs_proc
def test_bodies_with_random_faults_never_break_anything(open_app: Open) -> None:
    client: TestClient = open_app(max_wait_seconds=0, queue_limit=100)
    made = client.post("/classifier", json={"labels": ["left", "right"]}).json()["id"]
    good = [
        (FORM, form()),
        (FORM, form(name="images")),
        ("application/json", b'{"mixtures": [{"left": 0.5, "columns:middle": 0.5}, {"right": 1}]}'),
        ("application/json", b'{"labels": ["left", "right"], "seed": 3, "bundle": "columns"}'),
    ]
    chance, statuses = random.Random(77), Counter[int]()
    before = resident_bytes()
    for _ in range(FUZZED):
        media, body = chance.choice(good)
        path = chance.choice(ROUTES).replace("{id}", made)
        answer = client.post(path, content=mutated(body, chance), headers={"Content-Type": media})
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (path, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
    assert len(statuses) > 3, statuses
    assert resident_bytes() - before < MEMORY_FOR_FUZZ
    assert client.get("/recall?labels=left").status_code == 200


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
