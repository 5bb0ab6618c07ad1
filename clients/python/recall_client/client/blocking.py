"""`RecallClient` and `Classifier`: every method blocks."""

from __future__ import annotations

from types import TracebackType

import httpx2

from recall_client.client.classifier import ClassifierMethods
from recall_client.client.client import ClientMethods
from recall_client.connection.blocking import BlockingConnection
from recall_client.connection.dual import Blocking, run


class Classifier(ClassifierMethods["Classifier"], Blocking):
    """A handle on one classifier. `state` is its state when the server was last asked; the properties read it."""


class RecallClient(ClientMethods[Classifier, httpx2.BaseTransport], Blocking):
    """A client of one recall server; use it as a context manager, or `close` it.

        with RecallClient() as client:
            classifier = client.train(["Sneaker", "Bag"]).wait()
            print(classifier.predict(["photo.jpg"])[0].label)

    Safe to share between threads; unpickled in another process, it opens connections of its own. Every
    method raises NoAnswer where the server cannot be reached, and the Problem that it answers with (see
    `recall_client.errors`). `AsyncRecallClient` is the same for asyncio.
    """

    _connection_type = BlockingConnection
    _classifier_type = Classifier

    def close(self) -> None:
        """Close the connections, which the classifiers of this client also use."""
        run(self._server.connection.close())

    def __enter__(self) -> RecallClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
