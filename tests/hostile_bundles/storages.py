"""Hostile bundles whose memory is stored as int8 in a way that no correct writer produces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.hostile_bundles.draft import HostileBundle, Numbers, Whole, build

Tensors = Mapping[str, Numbers | Whole | None]

BASES = [127, -127, 0, 5, 1, 2, 3, 127]
ADDRESSING = [127, -127, *range(10)]

# The memory of the valid bundle as int8, with one scale for each of the two bases and one for their coefficients.
SOUND: Tensors = {
    "addressing": Whole([3, 2, 2], ADDRESSING),
    "addressing.scale": ([2], [0.25, 0.5]),
    "bases": Whole([2, 1, 2, 2], BASES),
    "bases.scale": ([2], [0.5, 0.125]),
}
NOT_WRITTEN = (
    "the tensor 'bases' and its scales are not what int8 storage writes: whole numbers within 127 that reach it under "
    "each scale, and scales above zero of at most 17 significant bits"
)


def storages() -> list[HostileBundle]:
    return [*scales(), *whole_numbers(), *mixtures()]


def case(name: str, abuse: str, sentence: str, tensors: Tensors, **manifest: Any) -> HostileBundle:
    return HostileBundle(f"int8-{name}", abuse, sentence, build(manifest=manifest, tensors=sound(tensors)))


def sound(tensors: Tensors) -> Tensors:
    """Return the valid tensors with those of `tensors` in their place; None leaves a tensor out."""
    return {name: tensor for name, tensor in {**SOUND, **tensors}.items() if tensor is not None}


def scales() -> list[HostileBundle]:
    """Scales that are missing or unusable."""
    missing = "'bases.scale' is missing: a memory addressed_bases with preprocessing standardise needs it"
    return [
        case("scale-missing", "whole numbers of no unit", missing, {"bases.scale": None}),
        case("scale-zero", "a scale that loses everything", NOT_WRITTEN, {"bases.scale": ([2], [0.5, 0.0])}),
        case("scale-negative", "a scale that turns signs round", NOT_WRITTEN, {"bases.scale": ([2], [-0.5, 0.125])}),
        case("scale-nan", "a scale that is no number", NOT_WRITTEN, {"bases.scale": ([2], [0.5, float("nan")])}),
        case(
            "scale-too-fine",
            "a scale whose products are rounded, so that saving would change the memory",
            NOT_WRITTEN,
            {"bases.scale": ([2], [0.5, 0.1])},
        ),
        case(
            "scale-enormous",
            "small numbers under a large scale",
            "the tensor 'bases' holds values beyond 1e+06",
            {"bases.scale": ([2], [0.5, 8192.0])},
        ),
        case(
            "scale-of-wrong-shape",
            "a scale for each number of a basis",
            "the scales of the tensor 'bases' must be float32 [2], not float32 [4]",
            {"bases.scale": ([4], [0.5] * 4)},
        ),
        case(
            "scale-of-whole-numbers",
            "scales that need scales",
            "the scales of the tensor 'bases' must be float32 [2], not int8 [2]",
            {"bases.scale": Whole([2], [1, 1])},
        ),
    ]


def whole_numbers() -> list[HostileBundle]:
    """Whole numbers that no correct writer stores with these scales."""
    return [
        case(
            "below-the-smallest",
            "-128, which has no positive counterpart",
            NOT_WRITTEN,
            {"bases": Whole([2, 1, 2, 2], [-128, *BASES[1:]])},
        ),
        case(
            "reaching-nowhere",
            "a scale that its numbers do not use, so that saving would change it",
            NOT_WRITTEN,
            {"bases": Whole([2, 1, 2, 2], [*BASES[:7], 100])},
        ),
        case(
            "of-wrong-rank",
            "addresses of no row",
            "the tensor 'addressing' has too few dimensions, [6, 2], to be stored as int8",
            {"addressing": Whole([6, 2], ADDRESSING)},
        ),
    ]


def mixtures() -> list[HostileBundle]:
    """Whole numbers, or scales, in places where they are not allowed."""
    return [
        case(
            "and-float32",
            "one tensor of each kind",
            "the tensor 'addressing' must be of whole numbers, as 'bases' of the same memory is",
            {"addressing": ([3, 2, 2], [0.25] * 12), "addressing.scale": None},
        ),
        case(
            "preprocessing",
            "a mean in units of nothing",
            "the tensor 'preprocessing.mean' holds whole numbers, which only a memory's own tensors may",
            {"preprocessing.mean": Whole([1], [1])},
        ),
        HostileBundle(
            "scale-of-floats",
            "a scale beside numbers that need none",
            "the tensor 'bases.scale' does not belong in this kind of bundle",
            build(tensors={"bases.scale": ([2], [0.5, 0.5])}),
        ),
    ]
