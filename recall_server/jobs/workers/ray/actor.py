"""The actor that trains on a node of a Ray cluster. The node imports this module, so it needs this package."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import torch

from recall_server.core.networks.kernels import prepare
from recall_server.core.training.allocator import keep_freed_memory
from recall_server.errors import Unavailable
from recall_server.jobs.rows.code_version import training_code_version
from recall_server.jobs.workers.worker import Ready, train_next, warm_up


def code() -> str:
    """What has to be the same on the server and on the nodes, so that equal tasks give equal classifiers."""
    return f"memory-recall {training_code_version()[:12]} and torch {torch.__version__}"


class TrainingActor:
    """Trains one task at a time. Construction raises Unavailable if the server has other code (see `code`)."""

    def __init__(self, device: str, threads: int, servers_code: str) -> None:
        ray = importlib.import_module("ray")
        node = f"{ray.util.get_node_ip_address()}/{ray.get_runtime_context().get_node_id()[:8]}"
        if code() != servers_code:
            raise Unavailable(f"node {node} has {code()}, and the server {servers_code}", retry_after=1)
        self._device, self._threads = device, threads
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._ready = Ready(device=device, node=node, slow=not prepare() and device == "cpu")
        warm_up(device)

    def ready(self) -> bytes:
        """The message that the worker is warm."""
        return self._ready.model_dump_json().encode()

    def train(self, task: bytes) -> Iterator[bytes]:
        """The messages of one training as they come, and the classifier's file after the last."""
        channel = _Channel(task)
        threading.Thread(target=self._train, args=(channel,), daemon=True).start()
        while (message := channel.messages.get()) is not None:
            yield message

    def _train(self, channel: _Channel) -> None:
        torch.set_num_threads(self._threads)  # it holds for the calling thread
        try:
            train_next(channel, self._device)
        finally:
            channel.messages.put(None)


class _Channel:
    """The end of a pipe with one task in it. What is sent is put into a queue, and None after the last."""

    def __init__(self, task: bytes) -> None:
        self._task = task
        self.messages: SimpleQueue[bytes | None] = SimpleQueue()

    def recv_bytes(self) -> bytes:
        return self._task

    def send_bytes(self, buf: bytes) -> None:
        self.messages.put(buf)
