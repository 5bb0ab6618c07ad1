"""A few pictures of each class -> what is recalled for them, in one of the ways that the loaded bundles allow.

images       an encoder turns the pictures into queries, to a memory that was distilled with it
classify     the pictures are taken for labels that a memory knows, and those are recalled (`recognition.py`)
prototypes   nothing is recalled: the nearest class mean in the encoder's space is the classifier (`prototypes.py`)
auto         images where a bundle takes pictures, else classify
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import torch

from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.errors import InvalidRequest
from recall_server.library.library import Library, LoadedBundle
from recall_server.recall.nearest_label import embedding, nearest_labels
from recall_server.recall.queries import Picture, PictureLimits, Query, by_class, decode_all, picture_queries

AddressingMode = Literal["images", "classify", "prototypes"]
Addressing = Literal["auto", "images", "classify", "prototypes"]


@final
@dataclass(frozen=True, eq=False)
class ResolvedPictures:
    """The way that was taken and why, the queries, and a classifier for the time until there is a better one."""

    way: AddressingMode
    why: str
    queries: list[Query]
    prototypes: PrototypeClassifier | None = None


def address(
    library: Library,
    pictures: Sequence[Picture],
    addressing: Addressing,
    bundle: str | None,
    limits: PictureLimits,
    *,
    own_pictures: bool = True,
) -> ResolvedPictures:
    """Queries for pictures, whose parts are the classes; they hold the pictures themselves if `own_pictures`.

    Raises InvalidRequest for a picture that is in two classes and for classes that look the same, UnsupportedQuery
    where no loaded bundle, or not the one named, can be asked in that way, and errors as `picture_queries`.
    """
    by_class(pictures)  # a name that no class can have is said before anything else
    _check_once(pictures)
    way = _way(library, bundle) if addressing == "auto" else addressing
    found = (_classified if way == "classify" else _encoded)(library, pictures, bundle, limits)
    if way == "prototypes":
        assert found.prototypes is not None, "an encoder has them"
        name = found.queries[0].loaded.name
        why = f"Nothing was trained: a picture goes to the nearest class mean in the space of {name}'s encoder."
        return replace(found, way=way, why=why)
    if own_pictures:
        return replace(found, why=f"{found.why} The pictures themselves are among what the classifier learns from.")
    return replace(found, queries=[replace(query, pixels=None) for query in found.queries])


def _encoded(
    library: Library, pictures: Sequence[Picture], bundle: str | None, limits: PictureLimits
) -> ResolvedPictures:
    loaded, encoder = library.image_addressable(bundle)
    queries = picture_queries(library, pictures, bundle, limits=limits)
    shown = {query.name: query.features for query in queries if query.features is not None}
    prototypes = PrototypeClassifier.of(shown, encoder)
    return ResolvedPictures("images", f"The memory {loaded.name} takes pictures as queries.", queries, prototypes)


def _way(library: Library, bundle: str | None) -> AddressingMode:
    asked = library.bundles.values() if bundle is None else [library.pick(bundle)]
    return "images" if any(loaded.encoder is not None for loaded in asked) else "classify"


def _classified(
    library: Library, pictures: Sequence[Picture], bundle: str | None, limits: PictureLimits
) -> ResolvedPictures:
    loaded = library.label_addressed(bundle)
    encoders = (each.encoder for each in library.bundles.values() if each.encoder is not None)
    embed = embedding(loaded.bundle, next(encoders, None))
    members = by_class(pictures)
    pixels = torch.from_numpy(decode_all(pictures, loaded.bundle.memory.image_shape, limits=limits))
    shown = {name: pixels[positions] for name, positions in members.items()}
    labels = nearest_labels(shown, loaded.bundle, embed)
    queries = [_label_query(loaded, name, label) for name, label in labels.items()]
    taken = ", ".join(f"{name} for {label}" for name, label in labels.items())
    why = f"The pictures were taken for labels that the memory {loaded.name} knows ({taken}), and those were recalled."
    found = [replace(each, features=embed(shown[each.name]), pixels=shown[each.name]) for each in queries]
    return ResolvedPictures("classify", why, found)


def _label_query(loaded: LoadedBundle, name: str, label: str) -> Query:
    return Query(name=name, loaded=loaded, vector=loaded.bundle.label_queries([label])[0], target={name: 1.0})


def _check_once(pictures: Sequence[Picture]) -> None:
    classes: dict[bytes, Picture] = {}
    for picture in pictures:
        first = classes.setdefault(picture.data, picture)
        if picture.data and first.part != picture.part:
            raise InvalidRequest(
                f"{picture.description} is {first.description} as well; a picture shows one class",
                parameter=picture.part[:200],
            )
