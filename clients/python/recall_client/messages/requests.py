"""What each verb sends, as plain data: no connection in here, so every kind of client can share it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

import httpx2

from recall_client.pictures.uploads import Pictures, Upload, uploads

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Labels: TypeAlias = "Sequence[str]"
"""Names of classes; `bundle:label` where several bundles know the label."""

PicturesByName: TypeAlias = "Mapping[str, Pictures]"
"""For each class the pictures that show it."""

Queries: TypeAlias = (
    "Labels | PicturesByName | Sequence[Mapping[str, float]] | Sequence[Iterable[float]] | NDArray[numpy.floating[Any]]"
)
"""What to recall: labels, pictures by name, mixtures of labels (label -> weight), or query vectors (rows of floats)."""

Addressing: TypeAlias = Literal["auto", "images", "classify", "prototypes"] | None
"""How pictures are used: as queries to a memory, taken for labels that are then recalled, or as prototypes alone."""

Parameters: TypeAlias = "tuple[tuple[str, str], ...]"

# What multipart forms write as something else: quotes and control characters, and halves of characters, which file
# systems make of names in another encoding.
_UNSENDABLE = re.compile('["\x00-\x1f\x7f-\x9f\ud800-\udfff]')


@dataclass(frozen=True)
class Request:
    """One HTTP request. `patience` is how many seconds the server is asked to hold its answer back at most."""

    method: str
    path: str
    parameters: Parameters = ()
    json: Mapping[str, Any] | None = None
    parts: tuple[tuple[str, Upload], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = 0.0

    @property
    def picture_bytes(self) -> int:
        """How large its pictures are together."""
        return sum(len(upload.data) for _, upload in self.parts)


def http_arguments(request: Request, timeout: float) -> dict[str, Any]:
    """What `build_request` of either HTTP client takes; `timeout` is in seconds between signs of life."""
    return {
        "method": request.method,
        "url": request.path,
        "params": request.parameters,
        "headers": dict(request.headers),
        "json": request.json,
        "files": [(name, (upload.filename, upload.data)) for name, upload in request.parts] or None,
        "timeout": httpx2.Timeout(timeout - request.patience, read=timeout),
    }


def recall(queries: Queries, parameters: Parameters, *, accept: str) -> Request:
    """Recalled images of `queries` in the media type `accept`. Raises TypeError or ValueError for what is no query."""
    headers = {"Accept": accept}
    if isinstance(queries, Mapping):
        return Request("POST", "/recall", parameters, parts=_parts(queries), headers=headers)
    if isinstance(queries, str | bytes):
        raise TypeError(f"labels come as a list of names; write [{queries!r}]")
    asked = list(queries)
    if not asked:
        raise ValueError("there is nothing to recall: name at least one label, mixture or vector")
    labels = [query for query in asked if isinstance(query, str)]
    mixtures = [dict(query) for query in asked if isinstance(query, Mapping)]
    if len(labels) == len(asked):
        return Request("GET", "/recall", (*(("labels", label) for label in labels), *parameters), headers=headers)
    if len(mixtures) == len(asked):
        return Request("POST", "/recall", parameters, json={"mixtures": mixtures}, headers=headers)
    if labels or mixtures:
        raise TypeError("labels, mixtures and vectors cannot be recalled in one call; a label alone is {'label': 1.0}")
    return Request("POST", "/recall", parameters, json={"vectors": list(map(_vector, asked))}, headers=headers)


def train(classes: Labels | PicturesByName, parameters: Parameters, *, key: str) -> Request:
    """A fresh classifier of `classes`; `key` makes the request safe to repeat.

    Raises TypeError and ValueError for what names no classes, and for a key that cannot be sent.
    """
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"an idempotency key is made of printable ASCII characters, not {key!r}")
    headers = {"Idempotency-Key": key}
    if isinstance(classes, Mapping):
        return Request("POST", "/classifier", parameters, parts=_parts(classes), headers=headers)
    if isinstance(classes, str | bytes):
        raise TypeError("classes come as a list of names, or as a mapping of names to pictures")
    return Request("POST", "/classifier", parameters, json={"labels": list(classes)}, headers=headers)


def classifier(identifier: str, *, patience: float = 0.0) -> Request:
    """The classifier's state; with `patience`, as soon as it is finished or that many seconds have passed."""
    headers = {"Prefer": f"wait={patience:.3f}"} if patience else {}
    return Request("GET", _classifier_path(identifier), headers=headers, patience=patience)


def classifiers(limit: int, cursor: str | None) -> Request:
    """A page of the newest classifiers, `limit` at most, behind the page that gave `cursor`."""
    return Request("GET", "/classifier", parameters(limit=limit, cursor=cursor))


def events(identifier: str, *, after: int, patience: float) -> Request:
    """The stream of what happens to a training, behind event `after`; `patience` as long as it may be silent."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
    return Request("GET", f"{_classifier_path(identifier)}/events", headers=headers, patience=patience)


def classifier_card(identifier: str) -> Request:
    """What the classifier is and is not, in Markdown."""
    return Request("GET", f"{_classifier_path(identifier)}/card", headers={"Accept": "text/markdown"})


def predict(identifier: str, pictures: Sequence[Upload]) -> Request:
    """What the classifier says of `pictures`."""
    parts = tuple(("images", upload) for upload in pictures)
    return Request("POST", f"{_classifier_path(identifier)}/predict", parts=parts)


def download(identifier: str, *, file_format: str) -> Request:
    """The classifier's file."""
    return Request("GET", f"{_classifier_path(identifier)}/download", (("format", file_format),))


def cancel(identifier: str) -> Request:
    """Stop training the classifier."""
    return Request("POST", f"{_classifier_path(identifier)}/cancel")


def delete(identifier: str) -> Request:
    """Forget the classifier and its file."""
    return Request("DELETE", _classifier_path(identifier))


def bundles() -> Request:
    """All loaded bundles."""
    return Request("GET", "/bundles")


def bundle(name: str) -> Request:
    """One bundle with its whole manifest."""
    return Request("GET", _bundle_path(name))


def bases(name: str, *, accept: str) -> Request:
    """The pictures that a bundle's memory is made of, in the media type `accept`."""
    return Request("GET", f"{_bundle_path(name)}/bases", headers={"Accept": accept})


def similarity(name: str, labels: Labels | None) -> Request:
    """How alike a bundle's labels are: all of them, or these."""
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels come as a list of names; write [{labels!r}]")
    return Request("GET", f"{_bundle_path(name)}/similarity", tuple(("labels", label) for label in labels or ()))


def bundle_card(name: str) -> Request:
    """What the bundle is and is not, in Markdown."""
    return Request("GET", f"{_bundle_path(name)}/card", headers={"Accept": "text/markdown"})


def info() -> Request:
    """What the server is."""
    return Request("GET", "/info")


def parameters(**values: str | int | None) -> Parameters:
    """The query parameters that have a value."""
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def _vector(query: object) -> list[float]:
    if isinstance(query, bytes) or not isinstance(query, Iterable):
        raise TypeError(f"a query is a label, a mixture of labels or a row of numbers, not {query!r}")
    return [float(number) for number in query]


def _classifier_path(identifier: str) -> str:
    return f"/classifier/{_segment(identifier)}"


def _bundle_path(name: str) -> str:
    return f"/bundles/{_segment(name)}"


def _segment(name: str) -> str:
    """One segment of a path, whatever the name holds; "." and ".." would be taken for steps, and "" for nothing."""
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is the name of no bundle and the id of no classifier")
    return quote(name, safe="")


def _parts(pictures_by_name: PicturesByName) -> tuple[tuple[str, Upload], ...]:
    """One part for each picture, its field name the class. A class without pictures would vanish: it is refused."""
    if not pictures_by_name:
        raise ValueError("there are no classes: give each class name its pictures")
    for name in pictures_by_name:
        if not name or _UNSENDABLE.search(name):
            raise ValueError(
                f"{name!r} cannot be sent as the name of a class: it must hold one character or more, "
                "and neither quotes nor control characters"
            )
    return tuple((name, upload) for name, several in pictures_by_name.items() for upload in uploads(several, of=name))
