"""A network that is slow: a proxy on this machine that delays everything by the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[int]:
    """The port of a proxy to `port` of this machine, by which a request and its answer take `seconds` together."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(2**16):
            loop.call_later(seconds / 2, writer.write, data)
        await asyncio.sleep(seconds)

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            with suppress(asyncio.CancelledError, ConnectionError):
                await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        finally:
            for each in (writer, there_writer):
                each.transport.abort()

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        listening.append((asyncio.get_running_loop(), asyncio.current_task(), server.sockets[0].getsockname()[1]))
        started.set()
        async with server:
            await asyncio.Event().wait()

    def run() -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(serve())

    listening: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None] | None, int]] = []
    started = threading.Event()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    ((loop, task, own_port),) = listening
    yield own_port
    assert task is not None
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
