"""A load generator with many keep-alive connections and little work per request.

A client that costs as much as the server would distort the measurement. This one writes prepared bytes and reads the
answer by its Content-Length, which every answer of this server has except streams.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass
class Tally:
    """The answers: the count of each status (0 for a broken connection), and the seconds of each answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The quantile of the seconds per answer."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection:
    """One connection to a server."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, unless it is connected."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=2**20)
        return self._streams

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        reader, writer = await self.open()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        body = await reader.readexactly(int(found.group(1))) if found else b""
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        return int(head[9:12]), head, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def get(host: str, port: int, path: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def post(host: str, port: int, path: str, body: bytes, media: str = "application/json") -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {media}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def keep_asking(host: str, port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Tally:
    """Send requests on all connections; each sends the next one as soon as it has the answer to its last one."""
    tally = Tally()
    until = time.perf_counter() + seconds

    async def one() -> None:
        connection = Connection(host, port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                status, _, _ = await connection.ask(next(requests))
            except (OSError, asyncio.IncompleteReadError):
                status = 0
                connection.close()
            tally.statuses[status] += 1
            tally.seconds.append(time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return tally
