"""A classifier on the server: wait for it, use it, take it away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import uuid4

from . import requests
from .answers import parse
from .connection import Connection
from .errors import StillTraining, TrainingCancelled, TrainingFailed, UnexpectedAnswer
from .models import ClassifierState, Prediction, Predictions
from .pictures import Pictures

FileFormat: TypeAlias = Literal["safetensors", "onnx"]

_FORMATS: dict[str, FileFormat] = {".safetensors": "safetensors", ".onnx": "onnx"}
_HOLD = (
    20.0  # seconds that the server is asked to hold an answer back: below the time-outs of what may stand in between
)
_HOLD_WATCHED = 1.0  # the same while somebody watches the progress
_PAUSE = 0.25  # seconds between two questions to a server that does not hold its answers back


class Classifier:
    """A handle on one classifier. `state` is what the server said last; `refresh`, `wait` and `cancel` ask anew."""

    def __init__(self, connection: Connection, state: ClassifierState) -> None:
        self._connection = connection
        self.state = state

    @property
    def id(self) -> str:
        return self.state.id

    @property
    def status(self) -> str:
        """ "queued", "running", "succeeded", "failed" or "cancelled", when the server was last asked."""
        return self.state.status

    @property
    def labels(self) -> tuple[str, ...]:
        return self.state.labels

    def __repr__(self) -> str:
        return f"Classifier({self.id}, {self.status}, labels={list(self.labels)})"

    def refresh(self) -> Classifier:
        """Ask the server for the state, and return this handle."""
        return self._update(requests.classifier(self.id))

    def wait(
        self, timeout: float = 300.0, *, on_progress: Callable[[ClassifierState], None] | None = None
    ) -> Classifier:
        """Wait until it is trained, and return this handle.

        `on_progress` is called with every new state, about once a second. Raises TrainingFailed, TrainingCancelled,
        or StillTraining after `timeout` seconds: the training goes on then, and `wait` can be called again.
        """
        hold = _HOLD if on_progress is None else _HOLD_WATCHED
        deadline = time.monotonic() + timeout
        while not self.state.is_terminal:
            asked_at = time.monotonic()
            patience = max(0.0, min(hold, deadline - asked_at))
            self._update(requests.classifier(self.id, patience=patience))
            if on_progress is not None:
                on_progress(self.state)
            if not self.state.is_terminal:
                if time.monotonic() >= deadline:
                    raise StillTraining(f"classifier {self.id} is still {self.status} after {timeout:g} s of waiting")
                time.sleep(max(0.0, min(_PAUSE, asked_at + patience - time.monotonic())))
        self._raise_unless_trained()
        return self

    def predict(self, pictures: Pictures) -> list[Prediction]:
        """What it says of each picture, in the order given. Raises NotReady before it is trained."""
        answer = self._connection.send(requests.predict(self.id, pictures))
        return list(parse(answer, Predictions).predictions)

    def download(self, path: str | os.PathLike[str], *, file_format: FileFormat | None = None) -> Path:
        """Write it to `path` and return that: safetensors for `FreshClassifier.load`, or ONNX that needs nothing else.

        The name's ending says which, unless `file_format` does. The file appears whole or not at all, checked against
        the server's digest. Raises NotReady before it is trained, ValueError for another ending, OSError.
        """
        target = Path(path)
        chosen = file_format or _FORMATS.get(target.suffix)
        if chosen is None:
            raise ValueError(f"{target.name!r} ends in neither .safetensors nor .onnx: name it so, or say file_format=")
        part = target.with_name(f".{target.name}.{uuid4().hex}.part")
        try:
            with part.open("xb") as file:
                self._receive(chosen, file.write)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return target

    def cancel(self) -> Classifier:
        """Stop the training, and return this handle. A finished classifier stays as it is."""
        return self._update(requests.cancel(self.id))

    def delete(self) -> None:
        """Make the server forget it, cancelling it first if need be. Raises NotFound if it is already gone."""
        self._connection.send(requests.delete(self.id))

    def _update(self, request: requests.Request) -> Classifier:
        self.state = parse(self._connection.send(request), ClassifierState)
        return self

    def _raise_unless_trained(self) -> None:
        if self.status == "failed":
            reason = self.state.error.detail if self.state.error else "the server gave no reason"
            raise TrainingFailed(f"classifier {self.id} failed: {reason}")
        if self.status != "succeeded":
            raise TrainingCancelled(f"classifier {self.id} was {self.status}")

    def _receive(self, file_format: FileFormat, write: Callable[[bytes], object]) -> None:
        digest = sha256()
        with self._connection.stream(requests.download(self.id, file_format=file_format)) as response:
            for chunk in response.iter_bytes():
                digest.update(chunk)
                write(chunk)
            expected = response.headers.get("etag", "").removeprefix("W/").strip('"')
        if expected and expected != digest.hexdigest():
            raise UnexpectedAnswer(f"classifier {self.id} arrived damaged: its digest is not the {expected} announced")
