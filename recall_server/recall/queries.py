"""Turns labels, mixtures of labels, vectors and pictures into query vectors to loaded bundles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from recall_server.core.bundle.manifest import Label
from recall_server.core.io.decoding import DecodingProcesses
from recall_server.core.io.pictures import decode_bytes, decoding_work
from recall_server.errors import Abandoned, InvalidRequest, PictureTooLarge, UnsupportedQuery
from recall_server.library import Library, LoadedBundle
from recall_server.library.precedence import Space

LARGEST_WEIGHT = 1e6  # of a number in a query; with the bound on a bundle's numbers, recalled images stay finite
LABEL: TypeAdapter[str] = TypeAdapter(Label)
INLINE_WORK = 1_000_000  # pixels: what takes longer to decode goes to a process that can be killed

_processes = DecodingProcesses()


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


@final
@dataclass(frozen=True)
class Picture:
    """An uploaded file: the name of its form part, which is its class, its file name if it has one, and its bytes."""

    part: str
    filename: str
    data: bytes

    @property
    def description(self) -> str:
        """How error messages refer to the picture."""
        return f"the picture {self.filename!r} of the part {self.part!r}"


@final
@dataclass(frozen=True)
class Upload:
    """The request that pictures came with.

    `wanted` tells whether its caller still waits. `charge` is told the work of decoding all its pictures, in pixels,
    before the first is decoded, and may raise an error.
    """

    wanted: Callable[[], bool] = lambda: True
    charge: Callable[[int], None] = lambda work: None


DIRECT = Upload()  # a call of this process: it waits to the end and pays nothing


@final
@dataclass(frozen=True)
class PictureLimits:
    """How many pictures one request may hold, how many pixels each, and how many pixels together."""

    pictures: int
    pixels: int
    total_pixels: int
    upload: Upload = DIRECT


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


def decode_all(
    pictures: Sequence[Picture], image_shape: tuple[int, int, int], *, limits: PictureLimits
) -> NDArray[np.float32]:
    """The pixels [N, C, H, W] of pictures. Errors name the first picture that is at fault.

    Raises errors as `pictures.decode`, InvalidRequest and PictureTooLarge for more than `limits`, and Abandoned.
    """
    if len(pictures) > limits.pictures:
        raise InvalidRequest(f"{len(pictures)} pictures are more than the {limits.pictures} of one request")
    work = [decoding_work(picture.data, name=picture.description, max_pixels=limits.pixels) for picture in pictures]
    if sum(work) > limits.total_pixels:
        raise PictureTooLarge(
            f"these {len(pictures)} pictures have {sum(work):,} pixels to decode together, more than the "
            f"{limits.total_pixels:,} of one request; send smaller ones, or fewer at a time"
        )
    limits.upload.charge(sum(work))
    pixels = np.empty((len(pictures), *image_shape), dtype=np.float32)
    for position, (picture, pixels_to_decode) in enumerate(zip(pictures, work, strict=True)):
        pixels[position] = _decoded(picture, image_shape, limits, inline=pixels_to_decode <= INLINE_WORK)
    return pixels / np.float32(255)


def _decoded(
    picture: Picture, image_shape: tuple[int, int, int], limits: PictureLimits, *, inline: bool
) -> NDArray[np.uint8]:
    if not limits.upload.wanted():
        raise Abandoned("the caller has left before its pictures were decoded")
    name, data = picture.description, picture.data
    if inline:
        return decode_bytes(data, image_shape, name=name, max_pixels=limits.pixels)
    wanted = limits.upload.wanted
    return _processes.decode(data, image_shape, name=name, max_pixels=limits.pixels, wanted=wanted)


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
