"""A classifier on the server: wait for it, use it, take it away."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from recall_client.client import training
from recall_client.client.handle import ClassifierHandle
from recall_client.client.training import FileFormat, OnProgress
from recall_client.connection.blocking import Connection
from recall_client.connection.server import Dialogue
from recall_client.local.classifier import LocalClassifier
from recall_client.messages.models import ClassifierState, Event, Prediction
from recall_client.pictures.uploads import Pictures


class Classifier(ClassifierHandle):
    """A handle on one classifier. `state` is what the server said last; `refresh`, `wait` and `cancel` ask anew."""

    def __init__(self, connection: Connection, dialogue: Dialogue, state: ClassifierState) -> None:
        super().__init__(dialogue, state)
        self._connection = connection

    def refresh(self) -> Classifier:
        """Ask the server for the state, and return this handle."""
        self._connection.run(self._taking(training.refresh(self._dialogue, self.id)))
        return self

    def wait(
        self, timeout: float | None = 300.0, *, progress: bool = False, on_progress: OnProgress | None = None
    ) -> Classifier:
        """Wait until it is trained, and return this handle.

        `progress` shows a line of how far it is on stderr; `on_progress` is called with every new state, about once a
        second. A server that restarts meanwhile is waited for. Raises TrainingFailed, TrainingCancelled, or
        StillTraining after `timeout` seconds (None: never): the training goes on then, and `wait` can be called again.
        """
        self._connection.run(self._waiting(timeout, progress, on_progress))
        return self

    def events(self, *, after: int = 0) -> Generator[Event, None, None]:
        """What happens to the training, as it happens, until it has ended; what happened before comes first.

        A connection that is lost is made again, and goes on behind the last event. `after` is the number of the last
        event that is known already. Raises NotFound where the classifier is deleted meanwhile.
        """
        listener = training.Listener(self._dialogue, self.id, after)
        with closing(self._connection.session()) as session:
            while (event := session.run(listener.next())) is not None:
                yield event

    def predict(self, pictures: Pictures) -> list[Prediction]:
        """What it says of each picture, in the order given. Raises NotReady before it is trained."""
        return self._connection.run(training.predict(self._dialogue, self.id, pictures))

    def download(self, path: str | os.PathLike[str], *, file_format: FileFormat | None = None) -> Path:
        """Write it to `path` and return that: safetensors for `FreshClassifier.load`, or ONNX that needs nothing else.

        The name's ending says which, unless `file_format` does. The file appears whole or not at all, checked against
        the server's digest. Raises NotReady before it is trained, ValueError for another ending, OSError.
        """
        return self._connection.run(training.download(self._dialogue, self.id, path, file_format))

    def local(self) -> LocalClassifier:
        """The same classifier in this process, which needs no server any more; `LocalClassifier` says what it needs.

        Raises NotReady before it is trained.
        """
        return self._connection.run(training.local(self._dialogue, self.id))

    def card(self) -> str:
        """What it is, how good, and what not to use it for: Markdown."""
        return self._connection.run(training.card(self._dialogue, self.id))

    def cancel(self) -> Classifier:
        """Stop the training, and return this handle. A finished classifier stays as it is."""
        self._connection.run(self._taking(training.cancel(self._dialogue, self.id)))
        return self

    def delete(self) -> None:
        """Make the server forget it, cancelling it first if need be. Raises NotFound if it is already gone."""
        self._connection.run(training.delete(self._dialogue, self.id))
