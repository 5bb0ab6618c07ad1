"""The methods of a client, for `RecallClient` and `AsyncRecallClient`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar
from uuid import uuid4

from recall_client.connection.connection import Connection
from recall_client.connection.dual import dual
from recall_client.connection.retries import Retries
from recall_client.connection.server import Server
from recall_client.connection.settings import BASE_URL, RETRIES, TIMEOUT, Settings
from recall_client.errors import BodyTooLarge, Conflict, ProblemDocument
from recall_client.messages.answers import read_png
from recall_client.messages.arrays import RecalledArrays, recalled_arrays, require_numpy
from recall_client.messages.models import (
    Bases,
    Bundle,
    BundleList,
    ClassifierList,
    ClassifierState,
    Recalled,
    ServerInfo,
    Similarity,
)
from recall_client.messages.queries import (
    Addressing,
    Labels,
    PicturesByName,
    Queries,
    label_parameters,
    recall_request,
    train_request,
)
from recall_client.messages.request import Request, bundle_path, classifier_path, parameters
from recall_client.pictures import Picture

PerLabel: TypeAlias = "int | Literal['all'] | None"
ClassifierT = TypeVar("ClassifierT")
TransportT = TypeVar("TransportT")

_LARGEST_PAGE = 1000
_LARGE = 8 * 2**20  # bytes of pictures from which the server is asked for its limit before they are sent


class ClientMethods(Generic[ClassifierT, TransportT]):
    """A client of one server."""

    _connection_type: ClassVar[type[Connection]]
    _classifier_type: ClassVar[type[Any]]

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: TransportT | None = None,
    ) -> None:
        """Connect to the server at `base_url`.

        `api_key` is taken from the environment variable RECALL_API_KEY where None. `timeout` is in seconds per answer.
        Temporary failures (no connection, 429, 502, 503, 504) are retried `retries` times, with growing random pauses
        and no earlier than the server's Retry-After. `headers` are sent with every request; `transport` replaces the
        network. Raises ValueError for an impossible address, key, number or header, and ImportError for a SOCKS proxy
        without the package that it needs.
        """
        settings = Settings.of(base_url, api_key=api_key, timeout=timeout, retries=retries, headers=headers)
        self._server = Server(self._connection_type(settings, transport), Retries(settings.retries))

    @dual
    async def info(self) -> ServerInfo:
        """Return the server's version, limits, rate limits and devices."""
        return await self._server.parsed(Request("GET", "/info"), ServerInfo)

    @dual
    async def bundles(self) -> list[Bundle]:
        """Return the loaded bundles, sorted by name."""
        return list((await self._bundles()).bundles)

    @dual
    async def bundle(self, name: str) -> Bundle:
        """Return one bundle with its manifest. Raises NotFound."""
        return await self._server.parsed(Request("GET", bundle_path(name)), Bundle)

    @dual
    async def bundle_card(self, name: str) -> str:
        """Return a bundle's card in Markdown: what it knows, how good it is, and its limits. Raises NotFound."""
        request = Request("GET", bundle_path(name, "card"), headers={"Accept": "text/markdown"})
        return await self._server.text(request, "text/markdown")

    @dual
    async def put_bundle(self, path: str | os.PathLike[str], *, replace: bool = False) -> Bundle:
        """Hand in the bundle in the file NAME.safetensors, which the server then serves. Needs a key of scope `admin`.

        Raises InvalidRequest for a bundle that the server refuses, Conflict for a name that another bundle has unless
        `replace` is true, StorageFailed, and OSError for a file that cannot be read.
        """
        file = Path(path)
        data = await self._server.connection.offload(file.read_bytes)
        headers = {"Content-Type": "application/vnd.safetensors"} | ({} if replace else {"If-None-Match": "*"})
        request = Request("PUT", bundle_path(file.stem), content=data, headers=headers)
        try:
            return await self._server.parsed(request, Bundle)
        except Conflict:  # also where an earlier try was handed in, and only its answer was lost
            found = await self._server.parsed(Request("GET", bundle_path(file.stem)), Bundle)
            if found.sha256 != sha256(data).hexdigest():
                raise
            return found

    @dual
    async def delete_bundle(self, name: str) -> None:
        """Remove a bundle from the server's folder. Needs a key of scope `admin`. Raises NotFound, StorageFailed."""
        await self._server.ask(Request("DELETE", bundle_path(name)))

    @dual
    async def bases(self, name: str) -> Bases:
        """Return the basis pictures of a bundle's memory. Raises NotFound, also for a memory without bases."""
        return await self._server.parsed(Request("GET", bundle_path(name, "bases")), Bases)

    @dual
    async def bases_sheet(self, name: str) -> Picture:
        """Return the basis pictures of a bundle's memory as one picture. Raises NotFound."""
        request = Request("GET", bundle_path(name, "bases"), headers={"Accept": "image/png"})
        return read_png(await self._server.ask(request))

    @dual
    async def similarity(self, name: str, labels: Labels | None = None) -> Similarity:
        """Return how similar labels are to a bundle's memory: all of them, or `labels`.

        Raises NotFound, also for a memory that pictures address.
        """
        request = Request("GET", bundle_path(name, "similarity"), label_parameters(labels or ()))
        return await self._server.parsed(request, Similarity)

    @dual
    async def labels(self) -> list[str]:
        """Return every label that can be recalled, as `bundle:label` where several bundles of one space know it.

        A label that bundles in pixels and in features know is listed once: the server takes it from features.
        """
        loaded = (await self._bundles()).bundles
        known = [(each, label) for each in loaded if each.queries == "labels" for label in each.labels]
        bundles_of = Counter((each.space, label) for each, label in known)
        named = [label if bundles_of[each.space, label] == 1 else f"{each.name}:{label}" for each, label in known]
        return list(dict.fromkeys(named))

    @dual
    async def groups(self) -> dict[str, tuple[str, ...]]:
        """Return every name that stands for several labels: groups of a dataset, and the server's aliases."""
        listed = await self._bundles()
        named = [(bundle.name, *each) for bundle in listed.bundles for each in bundle.groups.items()]
        bundles_of = Counter(group for _, group, _ in named)
        found = {
            group if bundles_of[group] == 1 else f"{bundle}:{group}": tuple(f"{bundle}:{label}" for label in members)
            for bundle, group, members in named
        }
        return dict(listed.aliases) | found

    @dual
    async def recall(
        self, queries: Queries, *, per_label: PerLabel = None, seed: int | None = None, bundle: str | None = None
    ) -> Recalled:
        """Return synthetic training images as pictures.

        `queries` are labels (["Sneaker", "Bag"]), mixtures of labels ([{"Sneaker": 0.5, "Bag": 0.5}]), query vectors,
        or pictures by name ({"bear": ["1.jpg", "2.jpg"]}, one query per name). `per_label` is the number of images per
        query, by default the server's. The first images are returned; with `seed` they are drawn. `bundle` is the only
        bundle to ask.
        """
        request = await self._recall("application/json", queries, per_label, seed, bundle)
        return await self._server.parsed(request, Recalled)

    @dual
    async def recall_arrays(
        self, queries: Queries, *, per_label: PerLabel = None, seed: int | None = None, bundle: str | None = None
    ) -> RecalledArrays:
        """Return the images of `recall` as exact floats with their targets. Needs NumPy; all images have one size."""
        require_numpy()
        request = await self._recall("application/vnd.safetensors", queries, per_label, seed, bundle)
        return recalled_arrays((await self._server.ask(request)).content)

    @dual
    async def contact_sheet(
        self, queries: Queries, *, per_label: PerLabel = None, seed: int | None = None, bundle: str | None = None
    ) -> Picture:
        """Return the images of `recall` as one picture with a row per query."""
        return read_png(await self._server.ask(await self._recall("image/png", queries, per_label, seed, bundle)))

    @dual
    async def train(
        self,
        classes: Labels | PicturesByName,
        *,
        seed: int | None = None,
        bundle: str | None = None,
        labels: Labels = (),
        addressing: Addressing = None,
        own_pictures: bool = True,
        idempotency_key: str | None = None,
    ) -> ClassifierT:
        """Start the training of a fresh classifier, and return a handle on it at once.

        `classes` are labels, or a few pictures of each class by its name: {"bear": ["1.jpg", "2.jpg"], "deer": [...]};
        `class_folders` makes such a mapping from a folder. The same classes and `seed` (0 where None) give the same
        classifier, byte for byte. A request that is sent again starts no second training; an `idempotency_key` of your
        own extends that to other processes, and raises Conflict where it was used for another request.

        `labels` of memories of features may stand beside classes of pictures. `addressing` is how pictures are used.
        By default, the server compares them in the features of an encoder, if one is loaded, by the method that
        recognises most left-out pictures. Classifiers on recalled images ("images", "classify") learn from the pictures
        as well, unless `own_pictures` is false.
        """
        left_out = None if own_pictures else "false"
        asked = parameters(seed=seed, bundle=bundle, addressing=addressing, own_pictures=left_out)
        key = uuid4().hex if idempotency_key is None else idempotency_key
        request = await self._server.connection.offload(partial(train_request, classes, asked, key=key, beside=labels))
        await self._check_size(request)
        return self._handle(await self._server.parsed(request, ClassifierState))

    @dual
    async def classifier(self, identifier: str) -> ClassifierT:
        """Return a handle on a classifier by its id, for instance from another session. Raises NotFound."""
        return self._handle(await self._server.parsed(Request("GET", classifier_path(identifier)), ClassifierState))

    @dual
    async def classifiers(self, *, limit: int | None = 100) -> list[ClassifierT]:
        """Return handles on the classifiers, newest first: at most `limit`, or all of them where None."""
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be 0 or more, or None for all, not {limit}")
        found: list[ClassifierState] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            wanted = _LARGEST_PAGE if limit is None else min(_LARGEST_PAGE, limit - len(found))
            request = Request("GET", "/classifier", parameters(limit=wanted, cursor=cursor))
            page = await self._server.parsed(request, ClassifierList)
            found += page.classifiers
            if page.next is None or not page.classifiers:
                break
            cursor = page.next
        return list(map(self._handle, found[:limit]))

    def _handle(self, state: ClassifierState) -> ClassifierT:
        handle: ClassifierT = self._classifier_type(self._server, state)
        return handle

    async def _bundles(self) -> BundleList:
        return await self._server.parsed(Request("GET", "/bundles"), BundleList)

    async def _recall(
        self, accept: str, queries: Queries, per_label: PerLabel, seed: int | None, bundle: str | None
    ) -> Request:
        asked = parameters(per_label=per_label, seed=seed, bundle=bundle)
        request = await self._server.connection.offload(partial(recall_request, queries, asked, accept=accept))
        await self._check_size(request)
        return request

    async def _check_size(self, request: Request) -> None:
        """Raise BodyTooLarge for a body over the server's limit.

        The server refuses such a body while it is being sent and closes the connection, which may lose its answer.
        """
        if request.picture_bytes < _LARGE:
            return
        info = await self._server.parsed(Request("GET", "/info"), ServerInfo)
        limit = info.limits.get("body_bytes", float("inf"))
        if request.picture_bytes > limit:
            detail = f"the pictures are {request.picture_bytes:,} bytes together, more than the limit of {limit:,.0f}"
            raise BodyTooLarge(ProblemDocument(413, type="/problems/body-too-large", detail=detail))
