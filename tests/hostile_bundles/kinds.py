"""Hostile bundles of memories that divide images into cells, decode them, describe classes, or have few features."""

from __future__ import annotations

import math

from tests.hostile_bundles.draft import HostileBundle, Json, Numbers, build

GENERATOR = {"noise": [3, 2], "noise.weight": [2, 1], "label.weight": [2, 1], "bias": [1, 1]}


def kinds() -> list[HostileBundle]:
    return [*formations(), *decoded(), *hallucinators(), *descriptions(), *sparse_bases()]


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


def decoded() -> list[HostileBundle]:
    """Codes and decoders that do not fit each other or the images of the manifest."""
    layers = {"first": (2, 1), "second": (2, 2), "last": (1, 2)}

    def case(name: str, abuse: str, sentence: str, kind: str = "latent_codes", **changed: list[int]) -> HostileBundle:
        shapes = {f"decoders.{layer}.weight": [1, *size, 3, 3] for layer, size in layers.items()}
        shapes |= {f"decoders.{layer}.bias": [1, size[0]] for layer, size in layers.items()}
        shapes |= {"codes": [2, 1, 1, 1, 1]} if kind == "latent_codes" else GENERATOR
        shapes |= {key.replace("_", "."): value for key, value in changed.items()}
        tensors: dict[str, Numbers | None] = {"addressing": None, "bases": None}
        tensors |= {key: (shape, [0.5] * math.prod(shape)) for key, shape in shapes.items()}
        count = sum(math.prod(shape) for shape in shapes.values())
        manifest: Json = {"memory": {"kind": kind}, "budget": {"numbers_stored": count, "images_per_class": 100.0}}
        return HostileBundle(name, abuse, sentence, build(manifest=manifest, tensors=tensors))

    layer = (
        "the decoder layer {} needs weights [decoders, outputs, inputs, 3, 3] and biases [decoders, outputs] that fit "
        "the layer before, not {} and {}"
    )
    decoders = [
        (
            "with-a-gap",
            "a layer that takes three channels, where the layer before has two",
            "second",
            ([1, 2, 3, 3, 3], [1, 2]),
        ),
        ("without-a-bias", "fewer biases than outputs", "last", ([1, 1, 2, 3, 3], [1, 3])),
        ("of-larger-windows", "filters of 5x5, where the format has 3x3", "first", ([1, 2, 1, 5, 5], [1, 2])),
    ]

    def parts(which: str, weight: list[int], bias: list[int]) -> dict[str, list[int]]:
        return {f"decoders_{which}_weight": weight, f"decoders_{which}_bias": bias}

    return [
        case(
            "codes-of-other-images",
            "codes for larger images than those of the manifest",
            "codes must be [labels, codes, 1, 1, 1] for images of 4x4, not [2, 1, 1, 2, 2]",
            codes=[2, 1, 1, 2, 2],
        ),
        *(
            case(f"decoder-{name}", abuse, layer.format(which, *sizes), **parts(which, *sizes))
            for name, abuse, which, sizes in decoders
        ),
        case(
            "generator-of-other-codes",
            "noise weights for codes that are larger than the decoder takes",
            "a generator has noise [r, z], weights [z, 1] and [labels, 1], a bias [1, 1] and one decoder, not [3, 2], "
            "[2, 4], [2, 1], [1, 1] and 1 decoders",
            kind="generator",
            noise_weight=[2, 4],
        ),
    ]


def hallucinators() -> list[HostileBundle]:
    """Hallucinators that do not fit the bases or each other."""

    def case(name: str, abuse: str, sentence: str, **changed: list[int]) -> HostileBundle:
        shapes = {
            "bases": [2, 1, 1, 4, 4],
            "encoder": [1, 1, 1, 3, 3],
            "encoder_bias": [1, 1],
            "scale": [1, 1, 2, 2],
            "shift": [1, 1, 2, 2],
            "decoder": [1, 1, 1, 3, 3],
            "decoder_bias": [1, 1],
        } | changed
        tensors: dict[str, Numbers | None] = {"addressing": None}
        tensors |= {name: (shape, [0.5] * math.prod(shape)) for name, shape in shapes.items()}
        count = sum(math.prod(shape) for shape in shapes.values())
        manifest: Json = {
            "memory": {"kind": "hallucinators", "settings": {"height": None, "width": None}},
            "budget": {"numbers_stored": count, "images_per_class": 9.0},
        }
        return HostileBundle(f"hallucinators-{name}", abuse, sentence, build(manifest=manifest, tensors=tensors))

    wanted = "{} must be {} beside bases of [2, 1, 1, 4, 4], not {}"
    return [
        *(
            case(name, abuse, wanted.format(which, fits, shape), **{which: shape})
            for name, abuse, which, fits, shape in (
                ("of-other-channels", "an encoder for three channels", "encoder", [1, 1, 1, 3, 3], [1, 1, 3, 3, 3]),
                ("of-other-size", "a scale for larger images", "scale", [1, 1, 2, 2], [1, 1, 4, 4]),
                ("in-other-number", "two decoders, one encoder", "decoder", [1, 1, 1, 3, 3], [2, 1, 1, 3, 3]),
            )
        ),
        case(
            "wider-than-images",
            "filters of 9x9 for images of 4x4",
            wanted.format("scale", [1, 1, -4, -4], [1, 1, 2, 2]),
            encoder=[1, 1, 1, 9, 9],
            decoder=[1, 1, 1, 9, 9],
        ),
        case(
            "of-wrong-rank",
            "bases without channels",
            "bases must be [labels, bases, c, H, W], encoder [m, C, c, k, k] and decoder [m, C, C, k, k], "
            "not [2, 1, 4, 4], [1, 1, 1, 3, 3] and [1, 1, 1, 3, 3]",
            bases=[2, 1, 4, 4],
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


def sparse_bases() -> list[HostileBundle]:
    """Bases at features that there are not, that come twice, or that nobody counted."""

    def case(name: str, abuse: str, sentence: str, features: object = 16, **changed: Numbers) -> HostileBundle:
        sound: dict[str, Numbers | None] = {
            "positions": ([2, 2], [0.0, 3.0, 0.0, 7.0]),
            "bases": ([3, 2], [0.5] * 6),
            "addressing": ([2, 3], [0.5] * 6),
        }
        count = sum(math.prod(each[0]) for each in (sound | changed).values() if each)
        manifest: Json = {
            "memory": {"kind": "sparse_bases", "settings": {"height": None, "width": None, "features": features}},
            "budget": {"numbers_stored": count},
        }
        return HostileBundle(f"sparse-{name}", abuse, sentence, build(manifest=manifest, tensors=sound | changed))

    rising = "positions must rise from feature 0 to feature 15"
    return [
        case("beyond-the-last", "a position after the last feature", rising, positions=([2, 2], [0.0, 3.0, 0.0, 16.0])),
        case("below-the-first", "a position before the first", rising, positions=([2, 2], [0.0, -1.0, 0.0, 7.0])),
        case("at-one-feature", "two numbers for one feature", rising, positions=([2, 2], [0.0, 7.0, 0.0, 7.0])),
        case(
            "of-other-positions",
            "two numbers of each basis at three positions",
            "bases [3, 2] do not fit positions [3, 2] and addressing [2, 3]",
            positions=([3, 2], [0.0, 3.0, 0.0, 7.0, 0.0, 8.0]),
        ),
        case(
            "of-images",
            "bases that are images",
            "bases must be [K, m], positions [m, 2] and addressing [labels, K], not [3, 1, 2], [2, 2] and [2, 3]",
            bases=([3, 1, 2], [0.5] * 6),
        ),
        case(
            "bomb",
            "two numbers in a terabyte of zeros",
            "sparse bases have 1 to 10000 features, not 1000000000000",
            features=10**12,
        ),
        case(
            "of-text", "features in words", "the number of features must be a whole number, not 'many'", features="many"
        ),
    ]
