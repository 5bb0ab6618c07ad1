"""Turns labels, mixtures of labels, vectors and pictures into query vectors to loaded bundles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from recall_server.core.bundle.manifest import Label
from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.library import Library, LoadedBundle
from recall_server.library.precedence import Space
from recall_server.recall.uploads import Picture, PictureLimits, decode_all

LARGEST_WEIGHT = 1e6  # of a number in a query; with the bound on a bundle's numbers, recalled images stay finite
LABEL: TypeAdapter[str] = TypeAdapter(Label)


@final
@dataclass(frozen=True, eq=False)
class Query:
    """A query vector [d_y] to one bundle. `target` maps labels to weights, and is paired with the recalled images.

    A query made of pictures also holds their `features` [n, d_y] and `pixels` [n, C, H, W]. `out_of_set`, if known, is
    how far the pictures are from the memory's data, from 0 to 1. `targets` [r, labels of `target`] are those of each
    row, if rows differ. `other_bundles` are those that know the name, too.
    """

    name: str
    loaded: LoadedBundle
    vector: Tensor
    target: dict[str, float]
    targets: Tensor | None = None
    features: Tensor | None = None
    pixels: Tensor | None = None
    out_of_set: float | None = None
    other_bundles: tuple[str, ...] = ()


def label_queries(
    library: Library, labels: Sequence[str], bundle: str | None, *, strict: bool = False, space: Space | None = None
) -> list[Query]:
    """One query for each label, to the bundles that know them. `strict`, `space` and errors as for `Library.resolve`.

    If a bundle stores targets, the target of a label is its distribution over the labels requested of that bundle.
    """
    references = library.resolve(labels, bundle=bundle, strict=strict, space=space)
    uses = Counter(reference.label for reference in references)
    queries = []
    for reference in references:
        name = reference.label if uses[reference.label] == 1 else reference.qualified
        vector = reference.loaded.bundle.label_queries([reference.label])[0]
        queries.append(
            Query(name=name, loaded=reference.loaded, vector=vector, target={name: 1.0}, other_bundles=reference.others)
        )
    hard = [query.loaded.bundle.memory.targets.form == "hard" for query in queries]
    return [query if own else _with_stored_target(query, queries) for query, own in zip(queries, hard, strict=True)]


def _with_stored_target(query: Query, queries: Sequence[Query]) -> Query:
    """The query with its bundle's stored targets over those of the queries that go to the same bundle."""
    together = [other for other in queries if other.loaded is query.loaded]
    targets = query.loaded.bundle.memory.targets.among(torch.stack([other.vector for other in together]))
    of_rows = targets[together.index(query)]  # [r or 1, q]
    target = dict(zip([other.name for other in together], of_rows.mean(dim=0).tolist(), strict=True))
    return replace(query, target=target, targets=of_rows if len(of_rows) > 1 else None)


def mixture_queries(library: Library, mixtures: Sequence[Mapping[str, float]], bundle: str | None) -> list[Query]:
    """One query for each weighted sum of labels of one bundle. Raises InvalidRequest and UnsupportedQuery."""
    if not mixtures:
        raise InvalidRequest("one mixture or more is needed", parameter="mixtures")
    return [_mixture_query(library, mixture, bundle) for mixture in mixtures]


def vector_queries(library: Library, vectors: Sequence[Sequence[float]], bundle: str | None) -> list[Query]:
    """One query for each vector [d_y], to the bundle named or the only one. UnsupportedQuery for another length."""
    if not vectors:
        raise InvalidRequest("one vector or more is needed", parameter="vectors")
    loaded = library.only(bundle)
    size = loaded.bundle.memory.query_size
    queries = []
    for number, vector in enumerate(vectors, start=1):
        if len(vector) != size:
            raise UnsupportedQuery(
                f"the bundle {loaded.name!r} takes vectors of {size} numbers, but vector {number} has {len(vector)}",
                parameter="vectors",
            )
        _check_weights(vector, "vectors")
        name = f"query {number}"
        values = torch.tensor(vector, dtype=torch.float32)
        queries.append(Query(name=name, loaded=loaded, vector=values, target={name: 1.0}))
    return queries


def picture_queries(
    library: Library, pictures: Sequence[Picture], bundle: str | None, *, limits: PictureLimits
) -> list[Query]:
    """One query for each part: the mean of its encoded pictures.

    Raises InvalidRequest for a part whose name no class can have, and errors as `Library.image_addressable` and
    `pictures.decode`.
    """
    if not pictures:
        raise InvalidRequest("send one picture or more as files; the name of each part is its class")
    loaded, encoder = library.image_addressable(bundle)
    members = by_class(pictures)
    pixels = decode_all(pictures, encoder.image_shape, limits=limits)
    features = torch.from_numpy(encoder.encode(pixels))
    for picture, encoded in zip(pictures, features, strict=True):
        if not bool(encoded.isfinite().all()):
            raise UnsupportedQuery(
                f"the query encoder of the bundle {loaded.name!r} gives no finite numbers for {picture.description}",
                parameter=picture.part,
            )
    images = torch.from_numpy(pixels)
    return [_class_query(loaded, name, features[at], images[at]) for name, at in members.items()]


def by_class(pictures: Sequence[Picture]) -> dict[str, list[int]]:
    """The positions of the pictures of each part. Raises InvalidRequest for a name that no class can have."""
    members: dict[str, list[int]] = {}
    for position, picture in enumerate(pictures):
        members.setdefault(_class_name(picture.part), []).append(position)
    return members


def _class_query(loaded: LoadedBundle, name: str, features: Tensor, pixels: Tensor) -> Query:
    scorer = loaded.novelty
    novelty = None if scorer is None else round(float(scorer.score(features).mean()), 4)
    return Query(name, loaded, features.mean(dim=0), {name: 1.0}, features=features, pixels=pixels, out_of_set=novelty)


def _mixture_query(library: Library, mixture: Mapping[str, float], bundle: str | None) -> Query:
    if not mixture:
        raise InvalidRequest("a mixture needs one label or more", parameter="mixtures")
    weights = list(mixture.values())
    _check_weights(weights, "mixtures")
    resolved = library.resolve_each(list(mixture), bundle, "mixtures")
    for name, labels_of_name in zip(mixture, resolved, strict=True):
        if len(labels_of_name) != 1:
            raise UnsupportedQuery(f"a mixture weighs single labels, which {name!r} is not", parameter="mixtures")
    references = [reference for (reference,) in resolved]
    loaded = references[0].loaded
    if any(reference.loaded is not loaded for reference in references):
        raise UnsupportedQuery("the labels of a mixture must be of one bundle", parameter="mixtures")
    labels = [reference.label for reference in references]
    return Query(
        name=" + ".join(f"{weight:g} {label}" for weight, label in zip(weights, labels, strict=True)),
        loaded=loaded,
        vector=torch.tensor(weights, dtype=torch.float32) @ loaded.bundle.label_queries(labels),
        target=dict(zip(labels, weights, strict=True)),
    )


def _check_weights(weights: Sequence[float], parameter: str) -> None:
    if not all(math.isfinite(weight) and abs(weight) <= LARGEST_WEIGHT for weight in weights):
        raise InvalidRequest(f"weights must be finite and at most {LARGEST_WEIGHT:g}", parameter=parameter)


def _class_name(name: str) -> str:
    """Check the name of a class by the rule for the labels of bundles."""
    try:
        return LABEL.validate_python(name)
    except ValidationError as error:
        raise InvalidRequest(
            f"{name[:200]!r} cannot name a class: it must have 1 to 200 characters, no ':' or ',', no control "
            "characters, and no white space at its ends",
            parameter=name[:200],
        ) from error
