"""`RecallClient`: the verbs of the server, for Python."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import httpx2

from recall_client.client import training, verbs
from recall_client.client.classifier import Classifier
from recall_client.client.verbs import PerLabel
from recall_client.connection.blocking import Connection
from recall_client.connection.settings import BASE_URL, RETRIES, TIMEOUT, Configuration
from recall_client.messages.arrays import RecalledArrays
from recall_client.messages.models import Bases, Bundle, ClassifierState, Recalled, ServerInfo, Similarity
from recall_client.messages.requests import Addressing, Labels, PicturesByName, Queries, parameters
from recall_client.pictures.uploads import Picture


class RecallClient:
    """A connection to one recall server; use it as a context manager, or `close` it.

        with RecallClient() as client:
            classifier = client.train(["Sneaker", "Bag"]).wait()
            print(classifier.predict(["photo.jpg"])[0].label)

    Safe to share between threads. Every method raises NoAnswer where the server cannot be reached, and the Problem that
    it answers with (`errors.py` draws the tree). `AsyncRecallClient` is the same for event loops.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`api_key` is that of the variable RECALL_API_KEY where None; `timeout` is in seconds for one answer.

        What fails for a while (no connection, 429, 502, 503, 504) is tried `retries` more times, with growing random
        pauses and no earlier than the server's Retry-After. `headers` go with every request; `transport` replaces the
        network. Raises ValueError for an address, a key or a number that cannot be.
        """
        made = Configuration.of(base_url, api_key=api_key, timeout=timeout, retries=retries, headers=headers)
        self._dialogue = made.dialogue()
        self._connection = Connection(httpx2.Client(transport=transport, **made.http_arguments()))

    def __enter__(self) -> RecallClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Classifiers got from this client cannot ask the server anything afterwards."""
        self._connection.close()

    def info(self) -> ServerInfo:
        """Version, limits, rates and devices of the server."""
        return self._connection.run(verbs.info(self._dialogue))

    def bundles(self) -> list[Bundle]:
        """The loaded bundles, in order of name."""
        return self._connection.run(verbs.bundles(self._dialogue))

    def bundle(self, name: str) -> Bundle:
        """One bundle with its whole manifest. Raises NotFound."""
        return self._connection.run(verbs.bundle(self._dialogue, name))

    def bundle_card(self, name: str) -> str:
        """What a bundle knows, how good it is, and what not to use it for: Markdown. Raises NotFound."""
        return self._connection.run(verbs.bundle_card(self._dialogue, name))

    def bases(self, name: str) -> Bases:
        """The pictures that a bundle's memory is made of. Raises NotFound, also for a memory without bases."""
        return self._connection.run(verbs.bases(self._dialogue, name))

    def bases_sheet(self, name: str) -> Picture:
        """The same as one picture."""
        return self._connection.run(verbs.bases_sheet(self._dialogue, name))

    def similarity(self, name: str, labels: Labels | None = None) -> Similarity:
        """How alike labels of a bundle are to its memory, all or these. Raises NotFound, also where that is unknown."""
        return self._connection.run(verbs.similarity(self._dialogue, name, labels))

    def labels(self) -> list[str]:
        """Every label that can be asked for by name, as `bundle:label` where several bundles know it."""
        return self._connection.run(verbs.labels(self._dialogue))

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Every name that stands for labels, with those: groups of labels, and the aliases of the server."""
        return self._connection.run(verbs.groups(self._dialogue))

    def recall(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Recalled:
        """Synthetic training images, as pictures to look at.

        `queries` are labels (["Sneaker", "Bag"]), mixtures of labels ([{"Sneaker": 0.5, "Bag": 0.5}]), query vectors,
        or pictures by name ({"bear": ["1.jpg", "2.jpg"]}: one query for each name). `per_label` images of each, the
        server's default where None; `seed` draws them, else they are the first; `bundle` names the only one to ask.
        """
        return self._connection.run(verbs.recall(self._dialogue, queries, per_label, seed, bundle))

    def recall_arrays(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> RecalledArrays:
        """The same as exact floats with their targets, to train with. Needs NumPy; all images must be of one size."""
        return self._connection.run(verbs.recall_arrays(self._dialogue, queries, per_label, seed, bundle))

    def contact_sheet(
        self,
        queries: Queries,
        *,
        per_label: PerLabel = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Picture:
        """The same as one picture: a row for each query."""
        return self._connection.run(verbs.contact_sheet(self._dialogue, queries, per_label, seed, bundle))

    def train(
        self,
        classes: Labels | PicturesByName,
        *,
        seed: int | None = None,
        bundle: str | None = None,
        addressing: Addressing = None,
        own_pictures: bool = True,
        idempotency_key: str | None = None,
    ) -> Classifier:
        """Start training a fresh classifier, and return at once; `wait` on it for the result.

        `classes` are labels, or a few pictures of each class by its name: {"bear": ["1.jpg", "2.jpg"], "deer": [...]};
        `class_folders` makes that of a folder. The same classes and `seed` (0 where None) give the same classifier,
        byte for byte. However often the request has to be sent, one training comes of it; an `idempotency_key` of your
        own makes that hold across processes, and raises Conflict where it came with another request before.

        `addressing` says how pictures are used: as queries to a memory ("images"), taken for labels that are then
        recalled ("classify"), or as "prototypes" alone, a classifier without training. The server chooses where None.
        A classifier learns from the pictures as well as from what they recall, unless `own_pictures` is false.
        """
        left_out = None if own_pictures else "false"
        asked = parameters(seed=seed, bundle=bundle, addressing=addressing, own_pictures=left_out)
        exchange = verbs.train(self._dialogue, classes, asked, idempotency_key)
        return self._handle(self._connection.run(exchange))

    def classifier(self, identifier: str) -> Classifier:
        """A handle on a classifier by its id, for instance from an earlier session. Raises NotFound."""
        return self._handle(self._connection.run(training.refresh(self._dialogue, identifier)))

    def classifiers(self, *, limit: int | None = 100) -> list[Classifier]:
        """The newest classifiers first, `limit` at most, or all of them where it is None."""
        return [self._handle(state) for state in self._connection.run(verbs.classifiers(self._dialogue, limit))]

    def _handle(self, state: ClassifierState) -> Classifier:
        return Classifier(self._connection, self._dialogue, state)
