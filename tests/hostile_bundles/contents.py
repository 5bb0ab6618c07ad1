"""Hostile bundles in a valid container: tensors that cannot be used, or that cost too much to use."""

from __future__ import annotations

import math
from typing import Any

from tests.hostile_bundles.draft import HostileBundle, Json, Numbers, build

MEGAPIXEL: Json = {"image": {"height": 1024, "width": 1024}, "memory": {"settings": {"height": 1024, "width": 1024}}}


def contents() -> list[HostileBundle]:
    return [*names(), *numbers(), *shapes(), *stored_items(), *targets(), *preprocessings(), *costs()]


def changed(name: str, abuse: str, sentence: str, tensors: dict[str, Numbers | None]) -> HostileBundle:
    return HostileBundle(name, abuse, sentence, build(tensors=tensors))


def names() -> list[HostileBundle]:
    """Tensors that are missing or not expected."""
    missing = "'{}' is missing: a memory addressed_bases with preprocessing standardise needs it"
    extra = "the tensor '{}' does not belong in this kind of bundle"
    one = ([1], [1.0])
    return [
        changed("tensor-missing", "no addressing", missing.format("addressing"), {"addressing": None}),
        changed("preprocessing-missing", "no mean", missing.format("mean"), {"preprocessing.mean": None}),
        changed("tensor-extra", "a tensor that nothing reads", extra.format("hidden"), {"hidden": one}),
        changed(
            "preprocessing-extra",
            "a tensor of another preprocessing",
            extra.format("preprocessing.gains"),
            {"preprocessing.gains": one},
        ),
    ]


def numbers() -> list[HostileBundle]:
    """Values that would make every recalled image useless."""
    infinite = "the tensor '{}' holds values that are not finite"
    beyond = "the tensor 'bases' holds values beyond 1e+06"
    bases, addressing = [2, 1, 2, 2], [3, 2, 2]
    nan, infinity = [math.nan] + [0.0] * 7, [-math.inf] + [0.0] * 11
    addresses: dict[str, Numbers | None] = {"addressing": (addressing, infinity)}
    return [
        changed("number-nan", "one NaN among the bases", infinite.format("bases"), {"bases": (bases, nan)}),
        changed("number-infinite", "one infinity among the addresses", infinite.format("addressing"), addresses),
        changed("number-enormous", "finite numbers whose products are not", beyond, {"bases": (bases, [1e30] * 8)}),
    ]


def targets() -> list[HostileBundle]:
    """Targets that do not fit the items of the memory."""

    def case(
        name: str, abuse: str, sentence: str, form: str, shape: list[int] | None, **manifest: Any
    ) -> HostileBundle:
        numbers = math.prod(shape or [0])
        said = {"memory": {"settings": {"targets": form}}, "budget": {"numbers_stored": 20 + numbers}} | manifest
        tensors: dict[str, Numbers | None] = {} if shape is None else {"targets": (shape, [0.5] * numbers)}
        return HostileBundle(f"targets-{name}", abuse, sentence, build(manifest=said, tensors=tensors))

    rows = "the targets are {}, not [2, 3 or 1, 2] as the memory's queries and rows are"
    return [
        case("of-other-labels", "three labels, where there are two", rows.format([3, 1, 3]), "soft", [3, 1, 3]),
        case("of-other-rows", "two rows, where there are three", rows.format([2, 2, 2]), "soft", [2, 2, 2]),
        case(
            "of-wrong-rank",
            "a table without rows",
            "targets must be [labels, rows or 1, labels], not [2, 2]",
            "unbounded",
            [2, 2],
        ),
        case(
            "missing",
            "soft targets that are nowhere",
            "'targets' is missing: a memory addressed_bases with preprocessing standardise needs it",
            "soft",
            None,
        ),
        case(
            "unasked",
            "stored targets of a memory that says it has hard ones",
            "the tensor 'targets' does not belong in this kind of bundle",
            "hard",
            [2, 1, 2],
        ),
        case(
            "unknown",
            "a form of targets that there is not",
            "the targets 'magic' are not one of hard, soft, unbounded",
            "magic",
            None,
        ),
        case(
            "not-counted",
            "numbers that the budget leaves out",
            "the manifest's budget is 20 numbers, but the memory stores 24",
            "soft",
            [2, 1, 2],
            budget={"numbers_stored": 20},
        ),
        case(
            "of-pictures",
            "targets over labels, of a memory that pictures address",
            "soft targets are of memories that labels address",
            "soft",
            [2, 1, 2],
            queries="images",
            query_encoder={"file": "encoder.onnx", "query_size": 2, "sha256": "0" * 64},
        ),
    ]


def shapes() -> list[HostileBundle]:
    """Shapes that do not fit together."""
    return [
        changed(
            "bases-of-wrong-rank",
            "bases without channels",
            "bases must be [K, C, h, w] or [K, D] and addressing [r, d_y, K], not [2, 2, 2] and [3, 2, 2]",
            {"bases": ([2, 2, 2], [0.0] * 8)},
        ),
        changed(
            "addressing-of-other-bases",
            "addresses of three bases, where there are two",
            "2 bases, but addressing combines 3",
            {"addressing": ([2, 2, 3], [0.0] * 12)},
        ),
        changed(
            "bases-larger-than-images",
            "bases that would have to be shrunk",
            "bases of 8x2 are larger than the images of 4x4",
            {"bases": ([2, 1, 8, 2], [0.0] * 32)},
        ),
    ]


def stored_items() -> list[HostileBundle]:
    """Stored images that cannot be enlarged as the manifest demands."""

    def case(name: str, abuse: str, sentence: str, manifest: Json, *, rows: int = 1, side: int = 2) -> HostileBundle:
        count = 2 * rows * side * side
        tensors: dict[str, Numbers | None] = {
            "addressing": None,
            "bases": None,
            "items": ([2, rows, 1, side, side], [0.5] * count),
        }
        return HostileBundle(
            f"items-{name}",
            abuse,
            sentence,
            build(manifest=manifest | {"budget": {"numbers_stored": count}}, tensors=tensors),
        )

    def sized(height: int | None, width: int | None = 4) -> Json:
        return {"memory": {"kind": "stored_items", "settings": {"height": height, "width": width}}}

    return [
        case(
            "larger-than-images",
            "stored images that would have to be shrunk",
            "stored images of 2x2 are larger than the images of 1x4",
            sized(1),
        ),
        case(
            "half-sized",
            "a height without a width",
            "stored images are enlarged to a height and a width; give both or neither",
            sized(4, None),
        ),
        case(
            "bomb",
            "64 images of one number, each to be enlarged to a megapixel",
            "recalling takes 64 items of 1x1024x1024 at once, more than 64000000 numbers",
            sized(1024, 1024) | {"image": {"height": 1024, "width": 1024}},
            rows=64,
            side=1,
        ),
    ]


def preprocessings() -> list[HostileBundle]:
    """Preprocessing that cannot be inverted, or that is made for images of another shape."""
    scales = "deviation must lie between 1e-06 and 1e+06, or the map cannot be inverted"
    two, three = ([2], [0.5] * 2), ([3], [0.5] * 3)
    slanted: dict[str, Numbers | None] = {
        "preprocessing.deviation": None,
        "preprocessing.mean": ([1, 4, 4], [0.5] * 16),
        "preprocessing.directions": ([2, 16], [1.0] + [0.0] * 15 + [0.6, 0.8] + [0.0] * 14),
        "preprocessing.gains": ([2], [1.0, 1.0]),
        "preprocessing.rest": ([], [1.0]),
    }
    return [
        changed("deviation-zero", "a division by zero", scales, {"preprocessing.deviation": ([1], [0.0])}),
        changed("deviation-negative", "images inside out", scales, {"preprocessing.deviation": ([1], [-0.5])}),
        changed(
            "preprocessing-of-wrong-shape",
            "two means and one deviation",
            "mean and deviation must both be [channels], not [2] and [1]",
            {"preprocessing.mean": two},
        ),
        changed(
            "preprocessing-of-other-images",
            "preprocessing of colour images, memory of grey ones",
            "the preprocessing is not made for images of [1, 4, 4]",
            {"preprocessing.mean": three, "preprocessing.deviation": three},
        ),
        HostileBundle(
            "zca-not-orthonormal",
            "whitening that cannot be undone",
            "directions must have orthonormal rows, or the map cannot be inverted",
            build(manifest={"preprocessing": "zca"}, tensors=slanted),
        ),
        *spectral(),
        HostileBundle(
            "projected-forgets",
            "a projection that cannot be undone",
            "rest must lie between 1e-06 and 1e+06, or the map cannot be inverted",
            build(manifest={"preprocessing": "projected"}, tensors={"preprocessing.rest": ([], [0.0])}),
        ),
        HostileBundle(
            "projected-elsewhere",
            "directions that do not follow from the bases",
            "the tensor 'preprocessing.directions' does not belong in this kind of bundle",
            build(
                manifest={"preprocessing": "projected"},
                tensors={"preprocessing.rest": ([], [0.5]), "preprocessing.directions": ([1, 16], [1.0] + [0.0] * 15)},
            ),
        ),
    ]


def spectral() -> list[HostileBundle]:
    """Spectral whitening that cannot be inverted, or that is made for images of another shape."""

    def case(
        name: str, abuse: str, sentence: str, tensors: dict[str, Numbers | None], manifest: Json | None = None
    ) -> HostileBundle:
        sound: dict[str, Numbers | None] = {
            "preprocessing.deviation": None,
            "preprocessing.rotation": ([1, 1], [1.0]),
            "preprocessing.gains": ([1, 4, 4], [1.0] * 16),
        }
        said = {"preprocessing": "spectral"} | (manifest or {})
        return HostileBundle(f"spectral-{name}", abuse, sentence, build(manifest=said, tensors=sound | tensors))

    return [
        case(
            "shrinks",
            "colours that are not only turned",
            "rotation must have orthonormal rows, or the map cannot be inverted",
            {"preprocessing.rotation": ([1, 1], [0.5])},
        ),
        case(
            "forgets",
            "a frequency that is lost",
            "gains must lie between 1e-06 and 1e+06, or the map cannot be inverted",
            {"preprocessing.gains": ([1, 4, 4], [1.0] * 15 + [0.0])},
        ),
        case(
            "of-wrong-shape",
            "two channels to turn, of images that have one",
            "mean must be [C], rotation [C, C] and gains [C, H, W], not [1], [2, 2] and [1, 4, 4]",
            {"preprocessing.rotation": ([2, 2], [1.0, 0.0, 0.0, 1.0])},
        ),
        case(
            "of-other-images",
            "more frequencies than the images have",
            "the preprocessing is not made for images of [1, 4, 4]",
            {"preprocessing.gains": ([1, 4, 5], [1.0] * 20)},
        ),
    ]


def costs() -> list[HostileBundle]:
    """Bundles that are small to store and expensive to use."""
    network = MEGAPIXEL | {"retraining": {"network": {"filters": 1024}}}
    parameters = 1024 * 9 + 3 * 1024 + 2 * 1024 * 512**2 + 2
    return [
        blow_up("recall-bomb", "64 bases of 1x1, each to be enlarged to a megapixel", bases=64, rows=1),
        blow_up("recall-bomb-of-rows", "one basis, recalled 64 times over at a megapixel", bases=1, rows=64),
        HostileBundle(
            "network-bomb",
            "a classifier of two gigabytes",
            f"the manifest's network has {parameters} parameters, more than 64000000",
            build(manifest=network),
        ),
    ]


def blow_up(name: str, abuse: str, *, bases: int, rows: int) -> HostileBundle:
    manifest = MEGAPIXEL | {"budget": {"numbers_stored": bases + 2 * rows * bases}}
    tensors: dict[str, Numbers | None] = {
        "bases": ([bases, 1, 1, 1], [1.0] * bases),
        "addressing": ([rows, 2, bases], [1.0] * (2 * rows * bases)),
    }
    sentence = "recalling takes 64 items of 1x1024x1024 at once, more than 64000000 numbers"
    return HostileBundle(name, abuse, sentence, build(manifest=manifest, tensors=tensors))
