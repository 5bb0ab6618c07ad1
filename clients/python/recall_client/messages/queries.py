"""What to recall and what to train on, in the forms that a caller may give, as requests."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from recall_client.messages.request import Parameters, Request
from recall_client.pictures import Pictures, Upload, uploads

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Labels: TypeAlias = "Sequence[str]"
"""Names of classes; `bundle:label` where several bundles know the label."""

PicturesByName: TypeAlias = "Mapping[str, Pictures]"
"""The pictures of each class, by the name of the class."""

Queries: TypeAlias = (
    "Labels | PicturesByName | Sequence[Mapping[str, float]] | Sequence[Iterable[float]] | NDArray[numpy.floating[Any]]"
)
"""What to recall: labels, pictures by name, mixtures of labels (label -> weight), or query vectors (rows of floats)."""

Addressing: TypeAlias = Literal["auto", "pictures", "prototypes", "recalled", "together", "images", "classify"] | None
"""How pictures are used. "images" and "classify" train on images that a memory recalls; the others compare features."""

# Control characters, and surrogates, which stand for undecodable bytes of file names.
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ENCODED = re.compile("%22|%0D|%0A")  # what a multipart form writes for a quote and a line break
# Characters that show nothing: soft hyphens, spaces of no width, marks of direction, and joiners beside ASCII. Between
# other characters joiners shape emoji and several scripts.
_HIDDEN = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
    "|(?:^|(?<=[ -~]))[\u200c\u200d]|[\u200c\u200d](?=$|[ -~])"
)


def recall_request(queries: Queries, parameters: Parameters, *, accept: str) -> Request:
    """Return the request that recalls `queries` in the media type `accept`.

    Raises TypeError or ValueError for what is not a query.
    """
    headers = {"Accept": accept}
    if isinstance(queries, Mapping):
        return Request("POST", "/recall", parameters, parts=_parts(queries), headers=headers)
    if isinstance(queries, str | bytes):
        raise TypeError(f"labels are a list of names; write [{queries!r}]")
    asked = list(queries)
    if not asked:
        raise ValueError("there is nothing to recall: give at least one label, mixture or vector")
    names = [_composed(query) for query in asked if isinstance(query, str)]
    mixtures = [_mixture(query) for query in asked if isinstance(query, Mapping)]
    if len(names) == len(asked):
        return Request("GET", "/recall", (*label_parameters(names), *parameters), headers=headers)
    if len(mixtures) == len(asked):
        return Request("POST", "/recall", parameters, json={"mixtures": mixtures}, headers=headers)
    if names or mixtures:
        raise TypeError("one call takes labels, mixtures or vectors; as a mixture, a label is {'label': 1.0}")
    return Request("POST", "/recall", parameters, json={"vectors": list(map(_vector, asked))}, headers=headers)


def train_request(
    classes: Labels | PicturesByName, parameters: Parameters, *, key: str, beside: Labels = ()
) -> Request:
    """Return the request that trains a classifier of `classes`; the idempotency `key` makes it safe to repeat.

    Labels `beside` stand before classes of pictures. Raises TypeError or ValueError for what is not a set of classes,
    and for a key that cannot be sent.
    """
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"the idempotency key {key!r} must consist of printable ASCII characters")
    headers = {"Idempotency-Key": key}
    if isinstance(classes, Mapping):
        asked = (*parameters, *label_parameters(beside))
        return Request("POST", "/classifier", asked, parts=_parts(classes), headers=headers)
    if beside:
        raise ValueError("labels can only stand beside classes of pictures; give all labels as classes")
    return Request("POST", "/classifier", parameters, json={"labels": labels(classes)}, headers=headers)


def labels(names: Labels) -> list[str]:
    """Return labels as the server knows them, in composed Unicode (NFC). Raises TypeError for anything else."""
    if isinstance(names, str | bytes):
        raise TypeError(f"labels are a list of names; write [{names!r}]")
    return [_composed(name) for name in names]


def label_parameters(names: Labels) -> Parameters:
    """Return one query parameter per label. Raises as `labels`."""
    return tuple(("labels", name) for name in labels(names))


def _composed(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a class is a string, not {name!r}; write {str(name)!r}")
    return unicodedata.normalize("NFC", name)


def _mixture(query: Mapping[Any, Any]) -> dict[str, float]:
    return {_composed(name): _number(weight) for name, weight in query.items()}


def _vector(query: object) -> list[float]:
    if isinstance(query, bytes) or not isinstance(query, Iterable):
        raise TypeError(f"a query is a label, a mixture of labels or a row of numbers, not {query!r}")
    return [_number(value) for value in query]


def _number(value: Any) -> float:
    """Return a float, which JSON can hold, unlike the scalars of NumPy and torch."""
    if isinstance(value, str | bytes):
        raise TypeError(f"weights and vectors hold numbers, not {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"weights and vectors hold numbers, not {value!r}") from error


def _parts(pictures_by_name: PicturesByName) -> tuple[tuple[str, Upload], ...]:
    """Return one form field per picture, named after its class. Raises ValueError for a class without pictures."""
    if not pictures_by_name:
        raise ValueError("there are no classes: give the pictures of each class by its name")
    names = [_class_name(name) for name in pictures_by_name]
    if same := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two classes have names that look the same: {min(same)!r}")
    pictures = zip(names, pictures_by_name.values(), strict=True)
    return tuple((name, upload) for name, several in pictures for upload in uploads(several, of=name))


def _class_name(name: object) -> str:
    composed = _composed(name)
    if not composed.strip():
        raise ValueError(f"{composed!r} is not the name of a class: it has no visible character")
    if _UNSENDABLE.search(composed):
        raise ValueError(f"{composed!r} is not the name of a class: it holds control characters")
    if encoded := _ENCODED.search(composed):
        raise ValueError(f"{composed!r} cannot be sent: {encoded[0]} in a form stands for another character")
    if hidden := _HIDDEN.search(composed):
        raise ValueError(f"{composed!r} is not the name of a class: it holds the invisible character {hidden[0]!a}")
    return composed
