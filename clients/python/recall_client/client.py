"""`RecallClient`: the verbs of the server, for Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Literal

import httpx2

from . import requests
from ._version import __version__
from .answers import parse
from .arrays import RecalledArrays, recalled_arrays, require_numpy
from .classifier import Classifier
from .connection import Connection
from .models import Bundle, BundleList, ClassifierList, ClassifierState, Recalled, ServerInfo
from .pictures import Picture
from .requests import Labels, PicturesByName, Queries


class RecallClient:
    """A connection to one recall server; use it as a context manager, or `close` it.

        with RecallClient() as client:
            classifier = client.train(["Sneaker", "Bag"]).wait()
            print(classifier.predict(["photo.jpg"])[0].label)

    Safe to share between threads. Every method raises NoAnswer where the server cannot be reached, and the Problem that
    it answers with (`errors.py` draws the tree).
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`timeout` is in seconds for one answer; `headers` go with every request; `transport` replaces the network."""
        sent = {"User-Agent": f"recall-client/{__version__}", "Accept": "application/json", **(headers or {})}
        self._connection = Connection(base_url.rstrip("/"), timeout=timeout, headers=sent, transport=transport)

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
        """Version and limits of the server."""
        return parse(self._connection.send(requests.info()), ServerInfo)

    def bundles(self) -> list[Bundle]:
        """The loaded bundles, in order of name."""
        return list(parse(self._connection.send(requests.bundles()), BundleList).bundles)

    def bundle(self, name: str) -> Bundle:
        """One bundle with its whole manifest. Raises NotFound."""
        return parse(self._connection.send(requests.bundle(name)), Bundle)

    def labels(self) -> list[str]:
        """Every label that can be asked for by name, as `bundle:label` where several bundles know it."""
        known = [
            (bundle.name, label) for bundle in self.bundles() if bundle.queries == "labels" for label in bundle.labels
        ]
        bundles_of = Counter(label for _, label in known)
        return [label if bundles_of[label] == 1 else f"{bundle}:{label}" for bundle, label in known]

    def recall(
        self,
        queries: Queries,
        *,
        per_label: int | Literal["all"] | None = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Recalled:
        """Synthetic training images, as pictures to look at.

        `queries` are labels (["Sneaker", "Bag"]), mixtures of labels ([{"Sneaker": 0.5, "Bag": 0.5}]), query vectors,
        or pictures by name ({"bear": ["1.jpg", "2.jpg"]}: one query for each name). `per_label` images of each, the
        server's default where None; `seed` draws them, else they are the first; `bundle` names the only one to ask.
        """
        asked = requests.parameters(per_label=per_label, seed=seed, bundle=bundle)
        return parse(self._connection.send(requests.recall(queries, asked, accept="application/json")), Recalled)

    def recall_arrays(
        self,
        queries: Queries,
        *,
        per_label: int | Literal["all"] | None = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> RecalledArrays:
        """The same as exact floats with their targets, to train with. Needs NumPy; all images must be of one size."""
        require_numpy()
        asked = requests.parameters(per_label=per_label, seed=seed, bundle=bundle)
        answer = self._connection.send(requests.recall(queries, asked, accept="application/vnd.safetensors"))
        return recalled_arrays(answer.content)

    def contact_sheet(
        self,
        queries: Queries,
        *,
        per_label: int | Literal["all"] | None = None,
        seed: int | None = None,
        bundle: str | None = None,
    ) -> Picture:
        """The same as one picture: a row for each query."""
        asked = requests.parameters(per_label=per_label, seed=seed, bundle=bundle)
        return Picture(self._connection.send(requests.recall(queries, asked, accept="image/png")).content)

    def train(
        self, classes: Labels | PicturesByName, *, seed: int | None = None, bundle: str | None = None
    ) -> Classifier:
        """Start training a fresh classifier, and return at once; `wait` on it for the result.

        `classes` are labels, or a few pictures of each class by its name: {"bear": ["1.jpg", "2.jpg"], "deer": [...]}.
        The same classes and `seed` (0 where None) give the same classifier, byte for byte.
        """
        request = requests.train(classes, requests.parameters(seed=seed, bundle=bundle))
        return Classifier(self._connection, parse(self._connection.send(request), ClassifierState))

    def classifier(self, identifier: str) -> Classifier:
        """A handle on a classifier by its id, for instance from an earlier session. Raises NotFound."""
        state = parse(self._connection.send(requests.classifier(identifier)), ClassifierState)
        return Classifier(self._connection, state)

    def classifiers(self, *, limit: int = 100) -> list[Classifier]:
        """The newest classifiers first, `limit` at most."""
        answer = parse(self._connection.send(requests.classifiers(limit)), ClassifierList)
        return [Classifier(self._connection, state) for state in answer.classifiers]
