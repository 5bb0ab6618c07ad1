"""`AsyncRecallClient` and `AsyncClassifier`: every method is to be awaited."""

from __future__ import annotations

from types import TracebackType

import httpx2

from recall_client.client.classifier import ClassifierMethods
from recall_client.client.client import ClientMethods
from recall_client.connection.asyncio import AsyncioConnection
from recall_client.connection.dual import Asyncio


class AsyncClassifier(ClassifierMethods["AsyncClassifier"], Asyncio):
    """A handle on one classifier, as `Classifier`; its methods are to be awaited."""


class AsyncRecallClient(ClientMethods[AsyncClassifier, httpx2.AsyncBaseTransport], Asyncio):
    """`RecallClient` for the tasks of one event loop of asyncio: the same methods, to be awaited.

        async with AsyncRecallClient() as client:
            classifier = await (await client.train(["Sneaker", "Bag"])).wait()
            print((await classifier.predict(["photo.jpg"]))[0].label)

    Pictures are read and encoded in threads, so that the event loop never waits.
    """

    _connection_type = AsyncioConnection
    _classifier_type = AsyncClassifier

    async def aclose(self) -> None:
        """Close the connections, which the classifiers of this client also use."""
        await self._server.connection.close()

    async def __aenter__(self) -> AsyncRecallClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
