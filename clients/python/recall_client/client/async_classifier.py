"""`Classifier` for event loops."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from recall_client.client import training
from recall_client.client.handle import ClassifierHandle
from recall_client.client.training import FileFormat, OnProgress
from recall_client.connection.asynchronous import AsyncConnection
from recall_client.connection.server import Dialogue
from recall_client.local.classifier import LocalClassifier
from recall_client.messages.models import ClassifierState, Event, Prediction
from recall_client.pictures.uploads import Pictures


class AsyncClassifier(ClassifierHandle):
    """A handle on one classifier: every method is that of `Classifier`, to be awaited."""

    def __init__(self, connection: AsyncConnection, dialogue: Dialogue, state: ClassifierState) -> None:
        super().__init__(dialogue, state)
        self._connection = connection

    async def refresh(self) -> AsyncClassifier:
        """As `Classifier.refresh`."""
        await self._connection.run(self._taking(training.refresh(self._dialogue, self.id)))
        return self

    async def wait(
        self, timeout: float | None = 300.0, *, progress: bool = False, on_progress: OnProgress | None = None
    ) -> AsyncClassifier:
        """As `Classifier.wait`; `on_progress` is called in the event loop."""
        await self._connection.run(self._waiting(timeout, progress, on_progress))
        return self

    async def events(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """As `Classifier.events`. Who breaks off closes it: `async with contextlib.aclosing(classifier.events())`."""
        listener = training.Listener(self._dialogue, self.id, after)
        async with aclosing(self._connection.session()) as session:
            while (event := await session.run(listener.next())) is not None:
                yield event

    async def predict(self, pictures: Pictures) -> list[Prediction]:
        """As `Classifier.predict`."""
        return await self._connection.run(training.predict(self._dialogue, self.id, pictures))

    async def download(self, path: str | os.PathLike[str], *, file_format: FileFormat | None = None) -> Path:
        """As `Classifier.download`."""
        return await self._connection.run(training.download(self._dialogue, self.id, path, file_format))

    async def local(self) -> LocalClassifier:
        """As `Classifier.local`; what comes back predicts in the thread that asks it."""
        return await self._connection.run(training.local(self._dialogue, self.id))

    async def card(self) -> str:
        """As `Classifier.card`."""
        return await self._connection.run(training.card(self._dialogue, self.id))

    async def cancel(self) -> AsyncClassifier:
        """As `Classifier.cancel`."""
        await self._connection.run(self._taking(training.cancel(self._dialogue, self.id)))
        return self

    async def delete(self) -> None:
        """As `Classifier.delete`."""
        await self._connection.run(training.delete(self._dialogue, self.id))
