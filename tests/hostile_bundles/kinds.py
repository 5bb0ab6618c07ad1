"""Hostile bundles of memories that divide images into cells, or that describe classes."""

from __future__ import annotations

import math

from tests.hostile_bundles.draft import HostileBundle, Json, Numbers, build


def kinds() -> list[HostileBundle]:
    return [*formations(), *descriptions()]


def formations() -> list[HostileBundle]:
    """Images that cannot be cut into the cells that the manifest promises."""

    def case(name: str, abuse: str, sentence: str, factor: object, shape: list[int]) -> HostileBundle:
        count = math.prod(shape)
        tensors: dict[str, Numbers | None] = {"addressing": None, "bases": None, "items": (shape, [0.5] * count)}
        settings = {"height": None, "width": None, "factor": factor}
        manifest: Json = {
            "memory": {"kind": "multi_formation", "settings": settings},
            "budget": {"numbers_stored": count},
        }
        return HostileBundle(f"formation-{name}", abuse, sentence, build(manifest=manifest, tensors=tensors))

    cut = "images of 4x4 cannot be cut into {0}x{0} equal cells"
    return [
        case("uneven", "images of four pixels in three cells", cut.format(3), 3, [2, 1, 1, 4, 4]),
        case("of-nothing", "cells of no size", cut.format(0), 0, [2, 1, 1, 4, 4]),
        case(
            "of-text",
            "a factor that is no number",
            "the factor must be a whole number, not 'two'",
            "two",
            [2, 1, 1, 4, 4],
        ),
        case(
            "of-vectors",
            "vectors, which have no cells",
            "images must be [labels, images, C, H, W], not [2, 1, 16]",
            2,
            [2, 1, 16],
        ),
    ]


def descriptions() -> list[HostileBundle]:
    """Classes that are described along other bases than there are, or impossibly."""

    def case(name: str, abuse: str, sentence: str, **changed: Numbers) -> HostileBundle:
        described: dict[str, Numbers | None] = {
            "addressing": None,
            "bases": ([3, 16], [0.5] * 48),
            "head": ([2, 3], [0.5] * 6),
            "centres": ([1, 2, 3], [0.5] * 6),
            "deviations": ([2, 3], [0.5] * 6),
        }
        count = sum(math.prod(each[0]) for each in (described | changed).values() if each)
        manifest: Json = {
            "memory": {"kind": "described_classes", "settings": {"height": None, "width": None}},
            "budget": {"images_per_class": 10, "numbers_stored": count},
        }
        return HostileBundle(
            f"description-{name}", abuse, sentence, build(manifest=manifest, tensors=described | changed)
        )

    along = "head {}, deviations {} and centres {} must be along the same 3 bases, of as many classes"
    return [
        case(
            "below-zero",
            "a deviation below zero",
            "deviations must not be below zero",
            deviations=([2, 3], [0.5] * 5 + [-0.5]),
        ),
        case(
            "of-other-bases",
            "a head along four bases where there are three",
            along.format([2, 4], [2, 3], [1, 2, 3]),
            head=([2, 4], [0.5] * 8),
        ),
        case(
            "of-other-classes",
            "centres of three classes where the head has two",
            along.format([2, 3], [2, 3], [1, 3, 3]),
            centres=([1, 3, 3], [0.5] * 9),
        ),
        case(
            "of-images",
            "bases that are images",
            "bases must be [K, D], head [C, K] and centres [r, C, K], not [3, 1, 4, 4], [2, 3] and [1, 2, 3]",
            bases=([3, 1, 4, 4], [0.5] * 48),
        ),
    ]
