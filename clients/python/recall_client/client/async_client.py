"""`AsyncRecallClient`: the verbs of the server, for event loops."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import httpx2

from recall_client.client import training, verbs
from recall_client.client.async_classifier import AsyncClassifier
from recall_client.client.verbs import PerLabel
from recall_client.connection.asynchronous import AsyncConnection
from recall_client.connection.settings import BASE_URL, RETRIES, TIMEOUT, Configuration
from recall_client.messages.arrays import RecalledArrays
from recall_client.messages.models import Bases, Bundle, ClassifierState, Recalled, ServerInfo, Similarity
from recall_client.messages.requests import Addressing, Labels, PicturesByName, Queries, parameters
from recall_client.pictures.uploads import Picture


class AsyncRecallClient:
    """`RecallClient` for event loops: the same methods, each to be awaited.

        async with AsyncRecallClient() as client:
            classifier = await (await client.train(["Sneaker", "Bag"])).wait()
            print((await classifier.predict(["photo.jpg"]))[0].label)

    For the tasks of one event loop of asyncio. Pictures are read and encoded in threads, so that the loop never waits.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """As `RecallClient`."""
        made = Configuration.of(base_url, api_key=api_key, timeout=timeout, retries=retries, headers=headers)
        self._dialogue = made.dialogue()
        self._connection = AsyncConnection(httpx2.AsyncClient(transport=transport, **made.http_arguments()))

    async def __aenter__(self) -> AsyncRecallClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Classifiers got from this client cannot ask the server anything afterwards."""
        await self._connection.aclose()

    async def info(self) -> ServerInfo:
        """As `RecallClient.info`."""
        return await self._connection.run(verbs.info(self._dialogue))

    async def bundles(self) -> list[Bundle]:
        """As `RecallClient.bundles`."""
        return await self._connection.run(verbs.bundles(self._dialogue))

    async def bundle(self, name: str) -> Bundle:
        """As `RecallClient.bundle`."""
        return await self._connection.run(verbs.bundle(self._dialogue, name))

    async def bundle_card(self, name: str) -> str:
        """As `RecallClient.bundle_card`."""
        return await self._connection.run(verbs.bundle_card(self._dialogue, name))

    async def bases(self, name: str) -> Bases:
        """As `RecallClient.bases`."""
        return await self._connection.run(verbs.bases(self._dialogue, name))

    async def bases_sheet(self, name: str) -> Picture:
        """As `RecallClient.bases_sheet`."""
        return await self._connection.run(verbs.bases_sheet(self._dialogue, name))

    async def similarity(self, name: str, labels: Labels | None = None) -> Similarity:
        """As `RecallClient.similarity`."""
        return await self._connection.run(verbs.similarity(self._dialogue, name, labels))

    async def labels(self) -> list[str]:
        """As `RecallClient.labels`."""
        return await self._connection.run(verbs.labels(self._dialogue))

    async def groups(self) -> dict[str, tuple[str, ...]]:
        """As `RecallClient.groups`."""
        return await self._connection.run(verbs.groups(self._dialogue))

    async def recall(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Recalled:
        """As `RecallClient.recall`."""
        return await self._connection.run(verbs.recall(self._dialogue, queries, per_label, seed, bundle))

    async def recall_arrays(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> RecalledArrays:
        """As `RecallClient.recall_arrays`."""
        return await self._connection.run(verbs.recall_arrays(self._dialogue, queries, per_label, seed, bundle))

    async def contact_sheet(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Picture:
        """As `RecallClient.contact_sheet`."""
        return await self._connection.run(verbs.contact_sheet(self._dialogue, queries, per_label, seed, bundle))

    async def train(
        self,
        classes: Labels | PicturesByName,
        *,
        seed: int | None = None,
        bundle: str | None = None,
        addressing: Addressing = None,
        own_pictures: bool = True,
        idempotency_key: str | None = None,
    ) -> AsyncClassifier:
        """As `RecallClient.train`."""
        left_out = None if own_pictures else "false"
        asked = parameters(seed=seed, bundle=bundle, addressing=addressing, own_pictures=left_out)
        exchange = verbs.train(self._dialogue, classes, asked, idempotency_key)
        return self._handle(await self._connection.run(exchange))

    async def classifier(self, identifier: str) -> AsyncClassifier:
        """As `RecallClient.classifier`."""
        return self._handle(await self._connection.run(training.refresh(self._dialogue, identifier)))

    async def classifiers(self, *, limit: int | None = 100) -> list[AsyncClassifier]:
        """As `RecallClient.classifiers`."""
        return [self._handle(state) for state in await self._connection.run(verbs.classifiers(self._dialogue, limit))]

    def _handle(self, state: ClassifierState) -> AsyncClassifier:
        return AsyncClassifier(self._connection, self._dialogue, state)
