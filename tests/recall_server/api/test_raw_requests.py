"""Bytes that no HTTP client sends: no answer is a 5xx, and the log has no error.

RECALL_FUZZED_REQUESTS=100000 runs it at the length that a release needs.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.recall_server.api.conftest import Open
from tests.recall_server.api.live import exchange, listening

pytestmark = pytest.mark.process

Address = tuple[str, int, str]  # and the id of a classifier

FUZZED = int(os.environ.get("RECALL_FUZZED_REQUESTS", "800"))
METHODS = "GET HEAD POST PUT DELETE PATCH OPTIONS TRACE CONNECT PRI PROPFIND BREW get G%20T".split()
PATHS = (
    "/",
    "/recall",
    "/recall?labels=left",
    "/classifier",
    "/classifier/{id}",
    "/classifier/{id}/events",
    "/classifier/{id}/cancel",
    "/classifier/{id}/predict",
    "/classifier/{id}/explain",
    "/classifier/{id}/download?format=onnx",
    "/bundles/columns",
    "/web/page.js",
    "/health/ready",
    "/openapi.json",
    "*",
    "http://localhost/info",
)
HEADERS = (
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Connection: close",
    "Connection: upgrade, keep-alive",
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=b",
    "Content-Type: multipart/form-data; boundary=" + "b" * 300,
    "Accept: text/event-stream",
    "Accept: image/png;q=nan, */*;q=1e999",
    "Prefer: wait=99999999999999999999",
    "Prefer: wait=\N{ARABIC-INDIC DIGIT THREE}",
    "Range: bytes=0-1,2-3",
    'If-None-Match: *, "a"',
    'Idempotency-Key: "a',
    "Last-Event-ID: -1",
    "Host: [::1",
    "Content-Length: 0",
    "Content-Length: 7",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Authorization: Bearer \xff",
)
BODIES = (
    b"",
    b'{"labels": ["left", "right"]}',
    b'--b\r\nContent-Disposition: form-data; name="left"; filename="a"\r\n\r\nx\r\n--b--\r\n',
    b"5\r\nabcde\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"5\r\nabcdefgh\r\n",
    b"-1\r\n",
    b"2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n",
    b"\x00\xff" * 40,
)


@pytest.fixture
def address(open_app: Open) -> Iterator[Address]:
    client = open_app(max_body_bytes=200_000, max_body_seconds=0.3, max_wait_seconds=0.1, queue_limit=1000)
    made = client.post("/classifier", json={"labels": ["left", "right"]}).json()["id"]
    with listening(client.app) as address:
        yield (*address, made)


def fuzzed(chance: random.Random, made: str) -> bytes:
    """One to three requests on one connection, most of them with faults."""
    sent = b""
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        path = chance.choice(PATHS).replace("{id}", made)
        if chance.random() < 0.6:
            where = chance.randrange(len(path) + 1)
            odd = chance.choice([f"%{chance.randrange(256):02x}", "%", "//", "/..", "#", "?", ";", "\\", "%u0041"])
            path = path[:where] + odd + path[where:]
        head = [f"{chance.choice(METHODS)} {path} HTTP/1.{chance.choice('1110')}", "Host: localhost"]
        head += chance.sample(HEADERS, chance.randint(0, 4))
        data = bytearray("\r\n".join([*head, "", ""]).encode("latin-1", "replace") + chance.choice(BODIES))
        if chance.random() < 0.3:
            data[chance.randrange(len(data))] = chance.randrange(256)
        sent += data
    return sent[: chance.randrange(len(sent))] if chance.random() < 0.1 else sent


def check(answers: bytes, sent: bytes) -> list[int]:
    """The statuses of the answers."""
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    assert all(status < 500 for status in statuses), (sent, answers)
    return statuses


@pytest.mark.timeout(max(300, FUZZED // 50))
def test_any_bytes_are_answered_or_the_connection_is_closed_without_an_error(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    chance, statuses = random.Random(7), Counter[int]()
    with caplog.at_level(logging.ERROR):
        for _ in range(FUZZED):
            sent = fuzzed(chance, address[2])
            statuses.update(check(exchange(address[:2], sent, hang_up=True), sent))
            errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert not errors, (sent, errors[0].getMessage(), errors[0].exc_info)
    assert len(statuses) > 5, statuses
    sys.stdout.write(f"{FUZZED} connections: {sorted(statuses.items())}\n")


def test_every_control_character_in_every_path_is_a_404(address: Address) -> None:
    for path in ("/recall", "/classifier", f"/classifier/{address[2]}/cancel", "/health/live", "/"):
        for code in (*range(32), 127):
            for place in (1, len(path) // 2 + 1, len(path)):
                raw = f"{path[:place]}%{code:02X}{path[place:]}"
                for method in ("GET", "POST"):
                    sent = f"{method} {raw} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
                    answer = exchange(address[:2], sent)
                    assert answer.startswith(b"HTTP/1.1 404"), (sent, answer)
                    assert b"application/problem+json" in answer
