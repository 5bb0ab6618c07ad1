"""What each verb sends, as plain data: no connection in here, so every kind of client can share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote

from .pictures import Pictures, Upload, uploads

Labels: TypeAlias = "Sequence[str]"
"""Names of classes; `bundle:label` where several bundles know the label."""

PicturesByName: TypeAlias = "Mapping[str, Pictures]"
"""For each class the pictures that show it."""

Queries: TypeAlias = "Labels | PicturesByName | Sequence[Mapping[str, float]] | Sequence[Iterable[float]]"
"""What to recall: labels, pictures by name, mixtures of labels (label -> weight), or query vectors (rows of floats)."""

Parameters: TypeAlias = "tuple[tuple[str, str], ...]"


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


def train(classes: Labels | PicturesByName, parameters: Parameters) -> Request:
    """A fresh classifier of `classes`. Raises TypeError and ValueError for what names no classes."""
    if isinstance(classes, Mapping):
        return Request("POST", "/classifier", parameters, parts=_parts(classes))
    if isinstance(classes, str | bytes):
        raise TypeError("classes come as a list of names, or as a mapping of names to pictures")
    return Request("POST", "/classifier", parameters, json={"labels": list(classes)})


def classifier(identifier: str, *, patience: float = 0.0) -> Request:
    """The classifier's state; with `patience`, as soon as it is finished or that many seconds have passed."""
    headers = {"Prefer": f"wait={patience:.3f}"} if patience else {}
    return Request("GET", _classifier_path(identifier), headers=headers, patience=patience)


def classifiers(limit: int) -> Request:
    """The newest classifiers, `limit` at most."""
    return Request("GET", "/classifier", (("limit", str(limit)),))


def predict(identifier: str, pictures: Pictures) -> Request:
    """What the classifier says of `pictures`."""
    parts = tuple(("images", upload) for upload in uploads(pictures, of="images"))
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
    return Request("GET", f"/bundles/{quote(name, safe='')}")


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
    return f"/classifier/{quote(identifier, safe='')}"


def _parts(pictures_by_name: PicturesByName) -> tuple[tuple[str, Upload], ...]:
    """One part for each picture, its field name the class. A class without pictures would vanish: it is refused."""
    if not pictures_by_name:
        raise ValueError("there are no classes: give each class name its pictures")
    for name in pictures_by_name:
        if not name or any(character in '"\r\n' for character in name):
            raise ValueError(
                f"{name!r} cannot be sent as the name of a class: quotes and line breaks must not be in it"
            )
    return tuple((name, upload) for name, several in pictures_by_name.items() for upload in uploads(several, of=name))
