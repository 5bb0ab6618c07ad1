"""Checks that the tensors of a bundle match its manifest; each raises InvalidBundle with one sentence."""

from __future__ import annotations

import torch

from recall_server.core.bundle.manifest import Manifest
from recall_server.core.memory import BASES, AbstractMemory
from recall_server.core.networks import AbstractNetwork, build_network
from recall_server.core.preprocessing import AbstractPreprocessing, Projected
from recall_server.errors import InvalidBundle


def check_memory(manifest: Manifest, memory: AbstractMemory) -> None:
    described = manifest.memory
    if described.kind != memory.kind or described.settings != memory.settings():
        raise InvalidBundle(
            f"the manifest describes a memory {described.kind} {described.settings}, "
            f"but the tensors make {memory.kind} {memory.settings()}"
        )
    if memory.item_shape != manifest.item_shape:
        what = "images" if manifest.space == "pixels" else "features"
        raise InvalidBundle(
            f"the manifest describes {what} of {list(manifest.item_shape)}, "
            f"but the memory recalls {list(memory.item_shape)}"
        )
    if memory.targets.form != "hard" and manifest.queries != "labels":
        raise InvalidBundle(f"{memory.targets.form} targets are of memories that labels address")
    if memory.stored_numbers() != manifest.budget.numbers_stored:
        raise InvalidBundle(
            f"the manifest's budget is {manifest.budget.numbers_stored} numbers, "
            f"but the memory stores {memory.stored_numbers()}"
        )


def check_queries(manifest: Manifest, memory: AbstractMemory) -> None:
    encoder = manifest.query_encoder
    expected = len(manifest.labels) if encoder is None else encoder.query_size
    source = "labels" if encoder is None else "numbers of the query encoder"
    if memory.query_size != expected:
        raise InvalidBundle(f"the memory takes queries of {memory.query_size} numbers, not of the {expected} {source}")


def check_preprocessing(manifest: Manifest, memory: AbstractMemory, preprocessing: AbstractPreprocessing) -> None:
    if preprocessing.kind != manifest.preprocessing:
        raise InvalidBundle(
            f"the manifest names the preprocessing {manifest.preprocessing!r}, "
            f"but the tensors are of {preprocessing.kind!r}"
        )
    if not preprocessing.fits(manifest.network_shape):
        what = "images" if manifest.space == "pixels" else "features"
        raise InvalidBundle(f"the preprocessing is not made for {what} of {list(manifest.item_shape)}")
    if isinstance(preprocessing, Projected):
        _check_projection(memory, preprocessing)


def _check_projection(memory: AbstractMemory, preprocessing: Projected) -> None:
    """The directions of a projection are computed from the bases on loading, so they must be those of the bases."""
    if BASES not in memory.traits:
        raise InvalidBundle(f"a memory {memory.kind} has no bases that pictures could be projected onto")
    bases = memory.span().flatten(1)
    span = preprocessing.directions
    if len(span) > len(bases) or not torch.allclose(bases @ span.T @ span, bases, atol=1e-3 * float(bases.abs().max())):
        raise InvalidBundle("the preprocessing projects onto the span of other bases than those of the memory")


def network_of(manifest: Manifest) -> AbstractNetwork:
    """The network that the memory was distilled for, at the smallest size of a classifier: two classes."""
    try:
        return build_network(manifest.retraining.network, manifest.network_shape, classes=2)
    except ValueError as error:
        raise InvalidBundle(f"the manifest's network cannot be built: {error}") from error
