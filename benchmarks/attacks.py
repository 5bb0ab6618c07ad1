"""Requests of callers that mean harm, one kind for each way in that was once open. Used by `benchmarks.hostile`.

They run in a process of their own, so that the client that measures the server does not wait for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.hostile_files import flat_webp, noise, progressive

BOUNDARY = "frontier"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
NICENESS = 10
PATIENCE = 60.0  # seconds for one answer
AT_THE_END = 2.0  # seconds for the answers that are outstanding when the time is up
LARGEST_ANSWER = 2**20  # bytes that are read of it
SECONDS_BETWEEN = 0.01  # two requests of one thread
LONG = "\N{GRINNING FACE}" * 60
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW")
PATHS = ("/recall", "/classifier", "/classifier/x", "/classifier/x/cancel", "/bundles", "/info", "/health/ready")


@dataclass(frozen=True)
class Target:
    """The server, the key that the attackers have, and a running training and a classifier of many classes."""

    host: str
    port: int
    key: str
    training: str
    classifier: str

    def request(self, method: str, path: str, body: bytes = b"", media: str = JSON, *lines: str) -> bytes:
        """The bytes of a request on a connection of its own."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close", *lines]
        head += [f"Authorization: Bearer {self.key}"]
        if body:
            head += [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(frozen=True)
class Attack:
    """What is sent. With `held` connections, so many are opened at a time and not read for `seconds`.

    An attacker waits `patience` seconds for an answer.
    """

    name: str
    make: Callable[[Target, random.Random], bytes]
    held: int = 0
    seconds: float = 0.0
    patience: float = PATIENCE


@dataclass
class Outcome:
    """Statuses of the answers to one attack (0: closed without one), and of refusals that were no problem document."""

    statuses: Counter[int] = field(default_factory=Counter)
    other_refusals: Counter[int] = field(default_factory=Counter)

    def add(self, answer: bytes) -> None:
        status = int(answer[9:12]) if re.match(rb"HTTP/1\.1 \d{3}", answer) else 0
        self.statuses[status] += 1
        head = answer.partition(b"\r\n\r\n")[0].lower()
        if status >= 400 and b"application/problem+json" not in head:
            self.other_refusals[status] += 1


def form(parts: list[tuple[str, str, bytes]]) -> bytes:
    """A multipart body of files: name of the part, name of the file, content."""
    pieces = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        "Content-Type: image/webp\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, file, data in parts
    ]
    return b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])


def strange_path(target: Target, chance: random.Random) -> bytes:
    spelling = f"%{chance.randrange(33):02X}" if chance.random() < 0.7 else chance.choice(["/", "//", "%2F", "%C2%85"])
    path = chance.choice(PATHS)
    where = chance.randrange(1, len(path) + 1)
    return target.request(chance.choice(METHODS), path[:where] + spelling + path[where:], b"{}")


def many_scans(target: Target, chance: random.Random) -> bytes:
    data = progressive(chance.choice([30, 32, 33, 600]), side=512)
    return target.request("POST", "/recall", form([("a", f"{number}.jpg", data) for number in range(20)]), FORM)


def many_pixels(target: Target, chance: random.Random) -> bytes:
    parts = [(f"{number}", "\x1b[31m.webp", flat_webp(4000)) for number in range(chance.choice([2, 4, 50]))]
    return target.request("POST", chance.choice(["/recall", "/classifier"]), form(parts), FORM)


def long_list(target: Target, _: random.Random) -> bytes:
    return target.request("POST", "/classifier", b'{"labels": [' + b"1," * 2_000_000 + b"1]}")


def bad_weights(target: Target, _: random.Random) -> bytes:
    mixture = {f"label {number}": "x" for number in range(250_000)}
    return target.request("POST", "/recall", json.dumps({"mixtures": [mixture]}).encode())


def announced_body(target: Target, chance: random.Random) -> bytes:
    media = chance.choice([JSON, FORM])
    return target.request("POST", "/classifier", b"", JSON, "Transfer-Encoding: chunked", f"Content-Type: {media}")


def large_answer(target: Target, _: random.Random) -> bytes:
    path = f"/classifier/{target.classifier}/predict?top=1000"
    return target.request("POST", path, form([("images", "a.webp", flat_webp(8))] * 300), FORM)


def long_names(target: Target, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        labels = [f"{number}{LONG}" for number in range(1000)]
        return target.request("POST", "/classifier", json.dumps({"labels": labels}).encode())
    tail = f"{chance.random()}"
    parts = [(f"{number} {tail} {LONG}", "a.png", noise(chance)) for number in range(chance.choice([200, 1000]))]
    return target.request("POST", "/classifier?addressing=prototypes", form(parts), FORM)


def long_list_of_jobs(target: Target, _: random.Random) -> bytes:
    return target.request("GET", "/classifier?limit=1000")


def event_stream(target: Target, _: random.Random) -> bytes:
    return target.request("GET", f"/classifier/{target.training}/events", b"", JSON, "Accept: text/event-stream")


def codec(target: Target, chance: random.Random) -> bytes:
    name = chance.choice(["undefined", "punycode", "idna", "unicode_escape", "utf-16", "zlib", "rot13", "x" * 500])
    body = form([("a", "a", b"x")]).replace(b"image/webp", f"text/plain; charset={name}".encode())
    return target.request("POST", "/recall", body, f"{FORM}; charset={name}")


def pretence(target: Target, chance: random.Random) -> bytes:
    lines = [f"X-Forwarded-For: {chance.random()}", "Origin: x://localhost:1", "Sec-Fetch-Site: cross-site"]
    return target.request("GET", "/recall?labels=fashion-mnist:Bag&seed=1", b"", JSON, chance.choice(lines))


def garbage(target: Target, chance: random.Random) -> bytes:
    good = bytearray(target.request("POST", "/recall", b"{}"))
    for _ in range(chance.randint(1, 6)):
        good[chance.randrange(len(good))] = chance.randrange(256)
    return bytes(good[: chance.randint(1, len(good))])


def uncached_recall(target: Target, chance: random.Random) -> bytes:
    return target.request("GET", f"/recall?labels=fashion-mnist:Bag&per_label=10&seed={chance.randrange(2**40)}")


ATTACKS = (
    *(Attack(make.__name__, make) for make in (strange_path, many_scans, many_pixels, long_list, bad_weights)),
    *(Attack(make.__name__, make) for make in (long_names, long_list_of_jobs, codec, pretence, uncached_recall)),
    Attack("garbage", garbage, patience=1.0),  # a server waits long for the end of a request that is cut off
    Attack("announced_body", announced_body, held=20, seconds=5.0),
    Attack("large_answer", large_answer, held=3, seconds=8.0),
    Attack("event_stream", event_stream, held=200, seconds=5.0),
)


def run(pipe: Connection, target: Target, seconds: float, seed: int, names: list[str]) -> None:
    """Attack for so long, each of these kinds in a thread of its own, and send the outcomes: the work of a process.

    It has a low priority, for attackers do not compute on the machine that they attack.
    """
    os.nice(NICENESS)
    chosen = [attack for attack in ATTACKS if attack.name in names]
    outcomes = {attack.name: Outcome() for attack in chosen}
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_repeat, args=(attack, target, outcomes[attack.name], until, seed + index))
        for index, attack in enumerate(chosen)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send_bytes(
        json.dumps({name: [dict(each.statuses), dict(each.other_refusals)] for name, each in outcomes.items()}).encode()
    )


def _repeat(attack: Attack, target: Target, outcome: Outcome, until: float, seed: int) -> None:
    chance = random.Random(seed)
    while (left := until - time.monotonic()) > 0:
        with contextlib.ExitStack() as stack:
            opened = [_sent(stack, target, attack.make(target, chance)) for _ in range(max(1, attack.held))]
            time.sleep(min(attack.seconds, left) + SECONDS_BETWEEN)
            for connection in opened:
                patience = min(attack.patience, max(0.0, until - time.monotonic()) + AT_THE_END)
                outcome.add(b"" if connection is None else _answer(connection, attack, patience))


def _sent(stack: contextlib.ExitStack, target: Target, data: bytes) -> socket.socket | None:
    """A connection on which the request was sent; None where it was refused."""
    try:
        connection = stack.enter_context(socket.create_connection((target.host, target.port), timeout=PATIENCE))
    except OSError:
        return None
    with contextlib.suppress(OSError):  # an early answer may close the connection meanwhile
        connection.sendall(data)
    return connection


def _answer(connection: socket.socket, attack: Attack, patience: float) -> bytes:
    """The beginning of the answer. Those that are held are not read any further than what has come."""
    received = b""
    connection.settimeout(patience)
    with contextlib.suppress(OSError):
        if attack.held:
            connection.setblocking(False)
            return connection.recv(2**16)
        while len(received) < LARGEST_ANSWER and (piece := connection.recv(2**16)):
            received += piece
    return received
