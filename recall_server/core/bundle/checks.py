"""What a manifest says must be what the tensors are: InvalidBundle, with one sentence, where it is not."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.bundle.manifest import Manifest
from recall_server.core.memory import AbstractMemory, AddressedBases
from recall_server.core.memory.soft_targets import check_soft_targets
from recall_server.core.networks import AbstractNetwork, build_network
from recall_server.core.preprocessing import AbstractPreprocessing, Projected
from recall_server.errors import InvalidBundle


def check_memory(manifest: Manifest, memory: AbstractMemory, targets: Tensor | None) -> None:
    described = manifest.memory
    if described.kind != memory.kind or described.geometry != memory.geometry():
        raise InvalidBundle(
            f"the manifest describes a memory {described.kind} {described.geometry}, "
            f"but the tensors make {memory.kind} {memory.geometry()}"
        )
    if memory.image_shape != manifest.image.shape:
        raise InvalidBundle(
            f"the manifest describes images of {list(manifest.image.shape)}, "
            f"but the memory recalls {list(memory.image_shape)}"
        )
    stored_numbers = memory.stored_numbers()
    if targets is not None:
        stored_numbers += targets.numel()
        _check_targets(manifest, targets)
    if stored_numbers != manifest.budget.numbers_stored:
        raise InvalidBundle(
            f"the manifest's budget is {manifest.budget.numbers_stored} numbers, but the memory stores {stored_numbers}"
        )


def _check_targets(manifest: Manifest, targets: Tensor) -> None:
    if manifest.format_version == 1 or manifest.queries != "labels":
        raise InvalidBundle("targets came with format version 2, for memories that labels address")
    try:
        check_soft_targets(targets, len(manifest.labels))
    except ValueError as error:
        raise InvalidBundle(str(error)) from error


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
    if not preprocessing.fits(manifest.image.shape):
        raise InvalidBundle(f"the preprocessing is not made for images of {list(manifest.image.shape)}")
    if isinstance(preprocessing, Projected):
        _check_projection(memory, preprocessing)


def _check_projection(memory: AbstractMemory, preprocessing: Projected) -> None:
    """The directions are made again from the bases when the file is read, so they must be of these bases."""
    bases = enlarged_bases(memory).flatten(1)
    span = preprocessing.directions
    if len(span) > len(bases) or not torch.allclose(bases @ span.T @ span, bases, atol=1e-3 * float(bases.abs().max())):
        raise InvalidBundle("the preprocessing projects onto the span of other bases than those of the memory")


def enlarged_bases(memory: AbstractMemory) -> Tensor:
    """The bases [K, C, H, W] that pictures are projected onto; InvalidBundle for a memory without any."""
    if not isinstance(memory, AddressedBases):
        raise InvalidBundle(f"a memory {memory.kind} has no bases that pictures could be projected onto")
    return memory.enlarged()


def network_of(manifest: Manifest) -> AbstractNetwork:
    """The network that the memory was distilled for, as small as a classifier can make it: with two classes."""
    try:
        return build_network(manifest.retraining.network, manifest.image.shape, classes=2)
    except ValueError as error:
        raise InvalidBundle(f"the manifest's network cannot be built: {error}") from error
