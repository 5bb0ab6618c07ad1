"""Recalled images in pixel space with their targets, and the formats in which they are sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recall_server.core.io.tensor_file import canonical_json, pack
from recall_server.core.reports.contact_sheet import contact_sheet
from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.library import LoadedBundle
from recall_server.recall.queries import Query

METADATA_KEY = "recall"
MOST_TARGETS = 32_000_000  # images times labels
DEFAULT_PER_LABEL = 10

PerLabel = int | Literal["all"] | None


@final
@dataclass(frozen=True, eq=False)
class RecalledQuery:
    """A query, the rows of the memory that it recalled, and these images [n, C, H, W] in pixel space, not clipped.

    A memory of features recalls vectors [n, D], as its encoder would give them.
    """

    query: Query
    rows: tuple[int, ...]
    images: NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class Recalled:
    """The answers to one or more queries, in the order of the queries."""

    queries: tuple[RecalledQuery, ...]
    seed: int | None

    @property
    def bundles(self) -> list[LoadedBundle]:
        """The bundles of the queries, each once, in order."""
        return list({recalled.query.loaded.name: recalled.query.loaded for recalled in self.queries}.values())

    @property
    def labels(self) -> list[str]:
        """The labels of all targets, each once, in the order of the queries. They are the columns of `targets`."""
        return list(dict.fromkeys(label for recalled in self.queries for label in recalled.query.target))

    @property
    def images(self) -> int:
        """The total number of images."""
        return sum(len(recalled.rows) for recalled in self.queries)

    def to_contact_sheet(self) -> bytes:
        """A PNG with one labelled row of images for each query. Raises UnsupportedQuery for features."""
        self._check_images()
        return contact_sheet([(recalled.query.name, recalled.images) for recalled in self.queries])

    def to_safetensors(self) -> bytes:
        """Tensors `images` [N, C, H, W] and `targets` [N, labels], float32. InvalidRequest if image sizes differ."""
        shapes = {recalled.images.shape[1:] for recalled in self.queries}
        if len(shapes) > 1:
            raise InvalidRequest(
                "these labels have images of different sizes, which do not fit in one tensor; "
                "ask for one bundle at a time",
                parameter="labels",
            )
        count = sum(len(recalled.rows) for recalled in self.queries)
        if count * len(self.labels) > MOST_TARGETS:
            raise InvalidRequest(
                f"{count} images of {len(self.labels)} labels need a larger table of targets than one answer may hold; "
                "ask for fewer at a time"
            )
        images = torch.from_numpy(np.concatenate([recalled.images for recalled in self.queries]))
        description = {
            "bundles": [{"name": loaded.name, "sha256": loaded.sha256} for loaded in self.bundles],
            "labels": self.labels,
            "names": [recalled.query.name for recalled in self.queries],
            "rows": [list(recalled.rows) for recalled in self.queries],
            "seed": self.seed,
        }
        tensors = {"images" if images.ndim > 2 else "features": images, "targets": self._targets()}
        return pack(tensors, key=METADATA_KEY, text=canonical_json(description))

    def _check_images(self) -> None:
        features = [each.query.name for each in self.queries if each.images.ndim == 2]
        if features:
            raise UnsupportedQuery(
                f"{features[0]} is recalled as features of an encoder, which are no images; "
                "ask for JSON or safetensors, or name a bundle of images",
                parameter="format",
            )

    def _targets(self) -> Tensor:
        column = {label: position for position, label in enumerate(self.labels)}
        targets = torch.zeros(sum(len(recalled.rows) for recalled in self.queries), len(column))
        start = 0
        for recalled in self.queries:
            query, end = recalled.query, start + len(recalled.rows)
            weights = torch.tensor([list(query.target.values())], dtype=torch.float32)
            if query.targets is not None:
                weights = query.targets[list(recalled.rows)]
            targets[start:end, [column[label] for label in query.target]] = weights
            start = end
        return targets


def recall(queries: Sequence[Query], *, per_label: PerLabel, seed: int | None, max_numbers: int) -> Recalled:
    """Recall `per_label` images for each query; None means 10, or all if there are fewer.

    Without a seed, the first rows of the memory are recalled. With a seed, rows are drawn without replacement and kept
    in order. All queries to a bundle are answered by one matrix product and with the same rows, so that, up to
    rounding, the images of a query do not depend on the other queries. Raises InvalidRequest for more rows than a
    memory has, and for more than `max_numbers` numbers in total.
    """
    counts = [_count(query.loaded, per_label) for query in queries]
    numbers = sum(count * _numbers(query) for count, query in zip(counts, queries, strict=True))
    if numbers > max_numbers:
        raise InvalidRequest(
            f"this would recall {numbers:,} numbers, more than the {max_numbers:,} of one request; "
            "ask for fewer labels or a smaller per_label",
            parameter="per_label",
        )
    answers: dict[int, RecalledQuery] = {}
    for positions in _by_bundle(queries).values():
        to_bundle = [queries[position] for position in positions]
        answers |= zip(positions, _answer(to_bundle, counts[positions[0]], seed), strict=True)
    return Recalled(queries=tuple(answers[position] for position in range(len(queries))), seed=seed)


def _by_bundle(queries: Sequence[Query]) -> dict[str, list[int]]:
    """The positions of the queries to each bundle."""
    positions: dict[str, list[int]] = {}
    for position, query in enumerate(queries):
        positions.setdefault(query.loaded.name, []).append(position)
    return positions


def _count(loaded: LoadedBundle, per_label: PerLabel) -> int:
    rows = loaded.bundle.memory.rows
    if per_label is None:
        return min(DEFAULT_PER_LABEL, rows)
    if per_label == "all":
        return rows
    if per_label > rows:
        raise InvalidRequest(
            f"the bundle {loaded.name!r} recalls up to {rows} images per label, not {per_label}", parameter="per_label"
        )
    return per_label


def _numbers(query: Query) -> int:
    return math.prod(query.loaded.bundle.memory.item_shape)


def _answer(queries: Sequence[Query], count: int, seed: int | None) -> list[RecalledQuery]:
    """`count` rows of one bundle for each of these queries to it."""
    bundle = queries[0].loaded.bundle
    rows = torch.arange(count)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(bundle.memory.rows, generator=generator)[:count].sort().values
    with torch.inference_mode():
        vectors = torch.stack([query.vector for query in queries])
        pixels = bundle.recall_pixels(vectors, rows.expand(len(queries), -1))
    return [
        RecalledQuery(query=query, rows=tuple(rows.tolist()), images=images.numpy())
        for query, images in zip(queries, pixels.reshape(*pixels.shape[:2], *bundle.memory.item_shape), strict=True)
    ]
