"""What a client can ask of a server beyond one classifier, as exchanges: `client.py` and `async_client.py` run them."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Literal, TypeAlias
from uuid import uuid4

from recall_client.connection.exchange import Exchange, work
from recall_client.connection.server import Dialogue
from recall_client.errors import BodyTooLarge, ProblemDocument
from recall_client.messages import requests
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
from recall_client.messages.requests import Labels, Parameters, PicturesByName, Queries, Request
from recall_client.pictures.uploads import Picture

PerLabel: TypeAlias = "int | Literal['all'] | None"

_JSON, _PNG, _SAFETENSORS = "application/json", "image/png", "application/vnd.safetensors"
_LARGEST_PAGE = 1000
_LARGE = 8 * 2**20  # bytes of pictures that are not sent before the server was asked whether it takes so much


def info(dialogue: Dialogue) -> Exchange[ServerInfo]:
    """Version and limits of the server."""
    return (yield from dialogue.parsed(requests.info(), ServerInfo))


def bundles(dialogue: Dialogue) -> Exchange[list[Bundle]]:
    """The loaded bundles."""
    return list((yield from dialogue.parsed(requests.bundles(), BundleList)).bundles)


def groups(dialogue: Dialogue) -> Exchange[dict[str, tuple[str, ...]]]:
    """Every name that stands for labels: groups, qualified where several bundles have one, and aliases."""
    listed = yield from dialogue.parsed(requests.bundles(), BundleList)
    named = [(bundle.name, *each) for bundle in listed.bundles for each in bundle.groups.items()]
    bundles_of = Counter(group for _, group, _ in named)
    found = {
        group if bundles_of[group] == 1 else f"{bundle}:{group}": tuple(f"{bundle}:{label}" for label in members)
        for bundle, group, members in named
    }
    return dict(listed.aliases) | found


def labels(dialogue: Dialogue) -> Exchange[list[str]]:
    """Every label that can be asked for by name, qualified where several bundles know it."""
    loaded = yield from bundles(dialogue)
    known = [(bundle.name, label) for bundle in loaded if bundle.queries == "labels" for label in bundle.labels]
    bundles_of = Counter(label for _, label in known)
    return [label if bundles_of[label] == 1 else f"{bundle}:{label}" for bundle, label in known]


def bundle(dialogue: Dialogue, name: str) -> Exchange[Bundle]:
    """One bundle with its manifest."""
    return (yield from dialogue.parsed(requests.bundle(name), Bundle))


def bundle_card(dialogue: Dialogue, name: str) -> Exchange[str]:
    """What a bundle is and is not, in Markdown."""
    return (yield from dialogue.read(requests.bundle_card(name), "text/markdown"))


def bases(dialogue: Dialogue, name: str) -> Exchange[Bases]:
    """The pictures that a bundle's memory is made of."""
    return (yield from dialogue.parsed(requests.bases(name, accept=_JSON), Bases))


def bases_sheet(dialogue: Dialogue, name: str) -> Exchange[Picture]:
    """The same as one picture."""
    return read_png((yield from dialogue.ask(requests.bases(name, accept=_PNG))))


def similarity(dialogue: Dialogue, name: str, labels: Labels | None) -> Exchange[Similarity]:
    """How alike a bundle's labels are."""
    return (yield from dialogue.parsed(requests.similarity(name, labels), Similarity))


def recall(
    dialogue: Dialogue, queries: Queries, per_label: PerLabel, seed: int | None, bundle: str | None
) -> Exchange[Recalled]:
    """Recalled images as pictures."""
    request = yield from _recall(dialogue, queries, per_label, seed, bundle, _JSON)
    return (yield from dialogue.parsed(request, Recalled))


def recall_arrays(
    dialogue: Dialogue, queries: Queries, per_label: PerLabel, seed: int | None, bundle: str | None
) -> Exchange[RecalledArrays]:
    """Recalled images as floats."""
    require_numpy()
    request = yield from _recall(dialogue, queries, per_label, seed, bundle, _SAFETENSORS)
    return recalled_arrays((yield from dialogue.ask(request)).content)


def contact_sheet(
    dialogue: Dialogue, queries: Queries, per_label: PerLabel, seed: int | None, bundle: str | None
) -> Exchange[Picture]:
    """Recalled images as one picture."""
    request = yield from _recall(dialogue, queries, per_label, seed, bundle, _PNG)
    return read_png((yield from dialogue.ask(request)))


def train(
    dialogue: Dialogue, classes: Labels | PicturesByName, parameters: Parameters, key: str | None
) -> Exchange[ClassifierState]:
    """Start a training. Whatever is sent twice is trained once: `key`, or one of its own, says that it is the same."""
    request = yield from work(partial(requests.train, classes, parameters, key=uuid4().hex if key is None else key))
    yield from _check_size(dialogue, request)
    return (yield from dialogue.parsed(request, ClassifierState))


def classifiers(dialogue: Dialogue, limit: int | None) -> Exchange[list[ClassifierState]]:
    """The newest classifiers, page by page; `limit` at most, or all."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more, or None for all of them, not {limit}")
    found: list[ClassifierState] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        wanted = _LARGEST_PAGE if limit is None else min(_LARGEST_PAGE, limit - len(found))
        page = yield from dialogue.parsed(requests.classifiers(wanted, cursor), ClassifierList)
        found += page.classifiers
        if page.next is None or not page.classifiers:
            break
        cursor = page.next
    return found[:limit]


def _recall(  # noqa: PLR0917  (one after another, as the three verbs have them)
    dialogue: Dialogue, queries: Queries, per_label: PerLabel, seed: int | None, bundle: str | None, accept: str
) -> Exchange[Request]:
    asked = requests.parameters(per_label=per_label, seed=seed, bundle=bundle)
    request = yield from work(partial(requests.recall, queries, asked, accept=accept))
    yield from _check_size(dialogue, request)
    return request


def _check_size(dialogue: Dialogue, request: Request) -> Exchange[None]:
    """Raises BodyTooLarge for what the server would refuse.

    It does so while the body is still on its way, and closes the connection: its reason may be lost in that.
    """
    if request.picture_bytes < _LARGE:
        return
    limit = (yield from info(dialogue)).limits.get("body_bytes", float("inf"))
    if request.picture_bytes > limit:
        detail = (
            f"the pictures have {request.picture_bytes:,} bytes together, more than the {limit:,.0f} of one request"
        )
        raise BodyTooLarge(ProblemDocument(413, type="/problems/body-too-large", detail=detail))
