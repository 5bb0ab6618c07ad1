"""The modes in which a few pictures of each class address the loaded bundles in pixel space.

`features/picture_request.py` has those in the features of an encoder, which come first.

images       an encoder turns the pictures into queries to the memory that was distilled with it
classify     the pictures are classified among the labels of a memory, and these labels are recalled
prototypes   nothing is recalled: the classifier is the nearest class mean in the encoder's feature space
auto         images if a bundle is addressed by pictures, and classify if none is
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import torch

from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.errors import InvalidRequest
from recall_server.library import Library, LoadedBundle
from recall_server.recall.nearest_label import embedding, nearest_labels
from recall_server.recall.queries import Query, by_class, picture_queries
from recall_server.recall.uploads import Picture, PictureLimits, decode_all

AddressingMode = Literal["images", "classify", "prototypes"]
Addressing = Literal["auto", "images", "classify", "prototypes", "pictures", "recalled", "together"]


@final
@dataclass(frozen=True, eq=False)
class ResolvedPictures:
    """The mode that was used, a sentence on it, the queries, and a classifier to use until one is trained."""

    mode: AddressingMode
    explanation: str
    queries: list[Query]
    prototypes: PrototypeClassifier | None = None


def resolve_pictures(
    library: Library,
    pictures: Sequence[Picture],
    addressing: Addressing,
    bundle: str | None,
    limits: PictureLimits,
    *,
    own_pictures: bool = True,
) -> ResolvedPictures:
    """One query for each class, where the classes are the parts of the pictures.

    The queries hold the pictures themselves if `own_pictures`. Raises InvalidRequest for a picture that is in two
    classes and for classes with the same mean, UnsupportedQuery if the bundles or the one named do not support the
    mode, and errors as `picture_queries`.
    """
    by_class(pictures)  # refuses names that no class can have before anything is computed
    check_one_class_each(pictures)
    mode = _default_mode(library, bundle) if addressing == "auto" else addressing
    resolved = (_classified if mode == "classify" else _encoded)(library, pictures, bundle, limits)
    if mode == "prototypes":
        assert resolved.prototypes is not None, "encoded pictures have prototypes"
        name = resolved.queries[0].loaded.name
        explanation = f"Nothing was trained: a picture goes to the nearest class mean in the space of {name}'s encoder."
        return replace(resolved, mode=mode, explanation=explanation)
    if own_pictures:
        explanation = f"{resolved.explanation} The classifier also learns from the pictures themselves."
        return replace(resolved, explanation=explanation)
    return replace(resolved, queries=[replace(query, pixels=None) for query in resolved.queries])


def _encoded(
    library: Library, pictures: Sequence[Picture], bundle: str | None, limits: PictureLimits
) -> ResolvedPictures:
    loaded, encoder = library.image_addressable(bundle)
    queries = picture_queries(library, pictures, bundle, limits=limits)
    features = {query.name: query.features for query in queries if query.features is not None}
    prototypes = PrototypeClassifier.of(features, encoder)
    return ResolvedPictures("images", f"The memory {loaded.name} is addressed by pictures.", queries, prototypes)


def _default_mode(library: Library, bundle: str | None) -> AddressingMode:
    candidates = library.bundles.values() if bundle is None else [library.pick(bundle)]
    return "images" if any(loaded.encoder is not None for loaded in candidates) else "classify"


def _classified(
    library: Library, pictures: Sequence[Picture], bundle: str | None, limits: PictureLimits
) -> ResolvedPictures:
    loaded = library.label_addressed(bundle)
    encoders = (each.encoder for each in library.bundles.values() if each.encoder is not None)
    embed = embedding(loaded.bundle, next(encoders, None))
    decoded = torch.from_numpy(decode_all(pictures, loaded.bundle.memory.image_shape, limits=limits))
    pixels = {name: decoded[positions] for name, positions in by_class(pictures).items()}
    labels = nearest_labels(pixels, loaded.bundle, embed)
    found = ", ".join(f"{name} as {label}" for name, label in labels.items())
    explanation = f"The pictures were classified as labels of the memory {loaded.name} ({found}), which were recalled."
    queries = [
        replace(_label_query(loaded, name, label), features=embed(pixels[name]), pixels=pixels[name])
        for name, label in labels.items()
    ]
    return ResolvedPictures("classify", explanation, queries)


def _label_query(loaded: LoadedBundle, name: str, label: str) -> Query:
    return Query(name=name, loaded=loaded, vector=loaded.bundle.label_queries([label])[0], target={name: 1.0})


def check_one_class_each(pictures: Sequence[Picture]) -> None:
    """Raise InvalidRequest for a picture that is in two classes."""
    classes: dict[bytes, Picture] = {}
    for picture in pictures:
        first = classes.setdefault(picture.data, picture)
        if picture.data and first.part != picture.part:
            raise InvalidRequest(
                f"{picture.description} is {first.description} as well; a picture can only be in one class",
                parameter=picture.part[:200],
            )
