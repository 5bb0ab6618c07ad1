"""What a request names (labels, mixtures of labels, vectors, pictures) -> query vectors to loaded bundles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from recall_server.core.bundle.manifest import Label
from recall_server.core.io.pictures import decode
from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.library.library import Library, LoadedBundle

LARGEST_WEIGHT = 1e6  # of a number in a query: with the bundle's own bound it keeps recalled images finite
LABEL: TypeAdapter[str] = TypeAdapter(Label)


@final
@dataclass(frozen=True, eq=False)
class Query:
    """One query [d_y] to one bundle; `target` is what its images are paired with: weights of labels.

    Where it was made of pictures, `pictures` [n, d_y] are these, encoded, and `shown` [n, C, H, W] are they themselves,
    in pixel space; `out_of_set` is how far they are from what the memory knows (`familiarity.py`), 0 to 1, where that
    is known.
    """

    name: str
    loaded: LoadedBundle
    vector: Tensor
    target: dict[str, float]
    features: Tensor | None = None
    pixels: Tensor | None = None
    out_of_set: float | None = None


@final
@dataclass(frozen=True)
class Picture:
    """One uploaded file: the name of its part, the name of the file where one was given, and its bytes."""

    part: str
    filename: str
    data: bytes

    @property
    def description(self) -> str:
        """What errors call it."""
        return f"the picture {self.filename!r} of the part {self.part!r}"


@final
@dataclass(frozen=True)
class PictureLimits:
    """How many pictures one request may hold, and how many pixels each of them."""

    pictures: int
    pixels: int


def label_queries(library: Library, labels: Sequence[str], bundle: str | None) -> list[Query]:
    """One query for each label, from whichever bundles know them; errors as `Library.resolve`.

    Where a bundle has soft targets, images of a label are shared out among the labels that are asked of it.
    """
    references = library.resolve(labels, bundle=bundle)
    namesakes = Counter(reference.label for reference in references)
    queries = []
    for reference in references:
        name = reference.label if namesakes[reference.label] == 1 else reference.qualified
        vector = reference.loaded.bundle.label_queries([reference.label])[0]
        queries.append(Query(name=name, loaded=reference.loaded, vector=vector, target={name: 1.0}))
    return [query if query.loaded.bundle.targets is None else _shared_out(query, queries) for query in queries]


def _shared_out(query: Query, queries: Sequence[Query]) -> Query:
    """The query with its bundle's soft target among those of these queries that go to the same bundle."""
    together = [other for other in queries if other.loaded is query.loaded]
    shares = query.loaded.bundle.targets_of(torch.stack([other.vector for other in together]))[together.index(query)]
    names = [other.name for other in together]
    return replace(query, target=dict(zip(names, shares.tolist(), strict=True)))


def mixture_queries(library: Library, mixtures: Sequence[Mapping[str, float]], bundle: str | None) -> list[Query]:
    """One query for each weighted sum of labels of one bundle; raises InvalidRequest and UnsupportedQuery."""
    if not mixtures:
        raise InvalidRequest("one mixture or more is needed", parameter="mixtures")
    return [_mixture_query(library, mixture, bundle) for mixture in mixtures]


def vector_queries(library: Library, vectors: Sequence[Sequence[float]], bundle: str | None) -> list[Query]:
    """One query for each vector [d_y] to the bundle named, or the only one; UnsupportedQuery for another length."""
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
    """One query for each part: the mean of what the encoder makes of the pictures of that name.

    Raises InvalidRequest for a part whose name no class can have, and errors as `Library.image_addressable` and
    `pictures.decode`.
    """
    if not pictures:
        raise InvalidRequest("send one picture or more as files; the name of each part is its class")
    loaded, encoder = library.image_addressable(bundle)
    members = by_class(pictures)
    pixels = decode_all(pictures, encoder.image_shape, limits=limits)
    encoded = torch.from_numpy(encoder.encode(pixels))
    for picture, query in zip(pictures, encoded, strict=True):
        if not bool(query.isfinite().all()):
            raise UnsupportedQuery(
                f"the query encoder of the bundle {loaded.name!r} gives no finite numbers for {picture.description}",
                parameter=picture.part,
            )
    shown = torch.from_numpy(pixels)
    return [_class_query(loaded, name, encoded[at], shown[at]) for name, at in members.items()]


def by_class(pictures: Sequence[Picture]) -> dict[str, list[int]]:
    """The positions of the pictures of each part; raises InvalidRequest for a part whose name no class can have."""
    members: dict[str, list[int]] = {}
    for position, picture in enumerate(pictures):
        members.setdefault(_class_name(picture.part), []).append(position)
    return members


def decode_all(
    pictures: Sequence[Picture], image_shape: tuple[int, int, int], *, limits: PictureLimits
) -> NDArray[np.float32]:
    """Pictures -> pixels [N, C, H, W]; an error names the first picture that is at fault."""
    if len(pictures) > limits.pictures:
        raise InvalidRequest(f"{len(pictures)} pictures are more than the {limits.pictures} of one request")
    return np.stack(
        [decode(picture.data, image_shape, name=picture.description, max_pixels=limits.pixels) for picture in pictures]
    )


def _class_query(loaded: LoadedBundle, name: str, encoded: Tensor, shown: Tensor) -> Query:
    known = loaded.novelty
    strange = None if known is None else round(float(known.score(encoded).mean()), 4)
    return Query(name, loaded, encoded.mean(dim=0), {name: 1.0}, features=encoded, pixels=shown, out_of_set=strange)


def _mixture_query(library: Library, mixture: Mapping[str, float], bundle: str | None) -> Query:
    if not mixture:
        raise InvalidRequest("a mixture needs one label or more", parameter="mixtures")
    weights = list(mixture.values())
    _check_weights(weights, "mixtures")
    meant = library.resolve_each(list(mixture), bundle, "mixtures")
    for name, each in zip(mixture, meant, strict=True):
        if len(each) != 1:
            raise UnsupportedQuery(f"a mixture weighs single labels, which {name!r} is not", parameter="mixtures")
    references = [reference for (reference,) in meant]
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
    """The rule that the labels of bundles follow, so that classes made of pictures can be named like them."""
    try:
        return LABEL.validate_python(name)
    except ValidationError as error:
        raise InvalidRequest(
            f"{name[:200]!r} cannot name a class: it must have 1 to 200 characters, no ':' or ',', no control "
            "characters, and no white space at its ends",
            parameter=name[:200],
        ) from error
