"""Hostile bundles with a wrong manifest: its text, its values, or its statements about the tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.hostile_bundles.draft import HostileBundle, Json, build

FILE_NAME = "String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'"


def manifests() -> list[HostileBundle]:
    return [*texts(), *versions(), *values(), *confusions(), *labels(), *combinations(), *contradictions()]


def changed(name: str, abuse: str, sentence: str, manifest: Json) -> HostileBundle:
    return HostileBundle(name, abuse, sentence, build(manifest=manifest))


def invalid(name: str, abuse: str, reason: str, manifest: Json) -> HostileBundle:
    return changed(name, abuse, f"the manifest is not valid: {reason}", manifest)


def encoder(**other: Any) -> Json:
    return {"query_encoder": {"file": "encoder.onnx", "query_size": 2, "sha256": "0" * 64} | other}


def texts() -> list[HostileBundle]:
    """Manifests that are not the expected JSON."""

    def case(name: str, abuse: str, sentence: str, edit: Callable[[str], str]) -> HostileBundle:
        return HostileBundle(name, abuse, sentence, build(edit_manifest=edit))

    return [
        case(
            "manifest-not-json",
            "prose",
            "this is not JSON: Expecting value: line 1 column 1 (char 0)",
            lambda text: "a bundle of bears",
        ),
        case(
            "manifest-key-twice",
            "two names: two readers may see two bundles",
            "the key 'name' appears twice",
            lambda text: text.replace('"name"', '"name":"other","name"', 1),
        ),
        case(
            "manifest-nan",
            "a number that is none",
            "NaN is not a JSON number",
            lambda text: text.replace('"seconds":0.5', '"seconds":NaN'),
        ),
        case(
            "manifest-overflow",
            "a number too large for a float",
            "the manifest is not valid: provenance.seconds: Input should be a finite number",
            lambda text: text.replace('"seconds":0.5', '"seconds":1e999'),
        ),
        case(
            "manifest-half-character",
            "half a surrogate pair, which cannot be written again",
            "the JSON holds half of a surrogate pair, which is no character",
            lambda text: text.replace('"bear"', '"\\ud800"'),
        ),
        case(
            "manifest-nested-deeply",
            "a hundred thousand brackets",
            "the JSON is nested too deeply",
            lambda text: "[" * 100_000,
        ),
    ]


def versions() -> list[HostileBundle]:
    """Format versions that this code does not read."""
    sentence = "the format version is {}; this code reads 3"
    listed = build(edit_manifest=lambda text: "[]")
    return [
        changed("version-2", "a format of the past", sentence.format("2"), {"format_version": 2}),
        changed("version-4", "a format of the future", sentence.format("4"), {"format_version": 4}),
        changed(
            "version-true", "a version that equals 1 and is not", sentence.format("True"), {"format_version": True}
        ),
        changed("version-missing", "no version", sentence.format("None"), {"format_version": None}),
        HostileBundle("manifest-not-an-object", "a list instead", sentence.format("None"), listed),
    ]


def values() -> list[HostileBundle]:
    """Keys and values that the specification does not allow."""
    return [
        invalid("key-missing", "no labels", "labels: Field required", {"labels": None}),
        invalid("key-unknown", "a wish", "on_load: Extra inputs are not permitted", {"on_load": "rm -rf /"}),
        invalid(
            "number-as-text",
            "a seed in quotes",
            "provenance.seed: Input should be a valid integer",
            {"provenance": {"seed": "0"}},
        ),
        invalid(
            "date-in-words",
            "a date that sorts nowhere",
            "provenance.date: the date 'yesterday' must be ISO 8601, like 2026-11-21 or 2026-11-21T14:30:00Z",
            {"provenance": {"date": "yesterday"}},
        ),
        invalid(
            "name-is-a-path", "a bundle named like a file elsewhere", f"name: {FILE_NAME}", {"name": "../../passwd"}
        ),
        invalid(
            "encoder-is-a-path",
            "an encoder from outside the folder of encoders",
            f"query_encoder.file: {FILE_NAME}",
            {"queries": "images"} | encoder(file="../../evil.onnx"),
        ),
        invalid(
            "retraining-for-days",
            "a schedule of a billion steps",
            "retraining.steps: Input should be less than or equal to 100000",
            {"retraining": {"steps": 10**9}},
        ),
        invalid(
            "loss-unknown",
            "classifiers that are trained for somebody else",
            "retraining.loss: Input should be 'cross_entropy' or 'squared_error'",
            {"retraining": {"loss": "theirs"}},
        ),
        invalid(
            "order-unknown",
            "rows in an order that nobody knows",
            "retraining.order: Input should be 'random' or 'sequence'",
            {"retraining": {"order": "backwards"}},
        ),
        invalid(
            "rate-of-a-step-negative",
            "a step uphill among the others",
            "retraining.rates.1: Input should be greater than 0",
            {"retraining": {"rates": [0.1, -0.1]}},
        ),
        invalid(
            "space-unknown",
            "items that nobody can look at",
            "space: Input should be 'pixels' or 'features'",
            {"space": "dreams"},
        ),
        invalid(
            "initial-unknown",
            "classifiers that begin with somebody's weights",
            "retraining.initial: Input should be 'random' or 'encoder'",
            {"retraining": {"initial": "http://example.org/weights"}},
        ),
        invalid(
            "progress-without-version",
            "a run that has written nothing",
            "progress.version: Input should be greater than or equal to 1",
            {"progress": {"version": 0}},
        ),
        invalid(
            "progress-beyond-certainty",
            "a validation accuracy of 170 %",
            "progress.validation.0.accuracy: Input should be less than or equal to 1",
            {"progress": {"validation": [{"accuracy": 1.7, "minutes": 0.0, "outer_steps": 0}]}},
        ),
        invalid(
            "progress-backwards",
            "a curve that goes back in time",
            "progress: the points of the validation curve must be in the order of their outer steps, each once",
            {
                "progress": {
                    "validation": [
                        {"accuracy": 0.5, "minutes": 1.0, "outer_steps": 10},
                        {"accuracy": 0.6, "minutes": 2.0, "outer_steps": 10},
                    ]
                }
            },
        ),
    ]


def confusions() -> list[HostileBundle]:
    """Confusion tables that no evaluation can have produced."""

    def counted(name: str, abuse: str, reason: str, table: Any, **other: Any) -> HostileBundle:
        row = {"data": "made up", "mean": 0.75, "network": "none", "protocol": "none", "runs": 2, "spread": 0.0}
        return invalid(name, abuse, reason, {"accuracy": [row | {"confusions": table}]} | other)

    square = "accuracy.0: confusions must be a square table, with a row and a column for each label"
    return [
        counted("confusions-not-square", "a column for a label that is none", square, [[3, 1, 0], [1, 3, 0]]),
        counted("confusions-ragged", "a row that ends early", square, [[3, 1], [4]]),
        counted(
            "confusions-negative",
            "fewer than no pictures",
            "accuracy.0.confusions.0.1: Input should be greater than or equal to 0",
            [[5, -1], [1, 3]],
        ),
        counted(
            "confusions-in-halves",
            "half a picture",
            "accuracy.0.confusions.0.0: Input should be a valid integer",
            [[2.5, 1.5], [1, 3]],
        ),
        counted(
            "confusions-of-no-picture",
            "an accuracy measured on nothing",
            "accuracy.0: confusions with 0 right of 0 do not make a mean accuracy of 0.75",
            [[0, 0], [0, 0]],
        ),
        counted(
            "confusions-worse-than-claimed",
            "a mean accuracy that the table does not bear out",
            "accuracy.0: confusions with 4 right of 8 do not make a mean accuracy of 0.75",
            [[2, 2], [2, 2]],
        ),
        counted(
            "confusions-of-half-a-run",
            "an odd number of answers by two networks",
            "accuracy.0: each row of confusions must count every picture 2 times, once for each run",
            [[3, 0], [1, 0]],
        ),
        counted(
            "confusions-of-other-labels",
            "a table of three labels for a memory of two",
            "confusions of 3 labels do not belong to 2 labels",
            [[4, 0, 0], [0, 4, 0], [2, 2, 4]],
        ),
        counted(
            "confusions-huge",
            "a table of more labels than one may have",
            "accuracy.0.confusions: Tuple should have at most 200 items after validation, not 201",
            [[0]] * 201,
        ),
        counted(
            "confusions-of-pictures",
            "confused labels, of a memory that has none",
            "a memory whose queries are images has no labels to confuse, so no confusions",
            [[3, 1], [1, 3]],
            queries="images",
            **encoder(),
        ),
    ]


def labels() -> list[HostileBundle]:
    """Labels that would mislead a person, a log or a request."""

    def first(name: str, abuse: str, reason: str, label: str) -> HostileBundle:
        return invalid(name, abuse, f"labels.0: {reason}", {"labels": [label, "deer"]})

    controls = "the label {!r} must not contain control characters"
    separators = "the label {!r} must not contain ':' or ',', which separate labels in a request"
    forged, backwards = "bear\nERROR disk on fire", "\u202eraeb"
    return [
        invalid(
            "labels-none",
            "no labels",
            "labels: Tuple should have at least 1 item after validation, not 0",
            {"labels": []},
        ),
        invalid(
            "label-twice", "one name for two", "the labels must be different from each other", {"labels": ["a", "a"]}
        ),
        first("label-empty", "a label without letters", "String should have at least 1 character", ""),
        first("label-long", "a label of 201 letters", "String should have at most 200 characters", "a" * 201),
        first("label-with-line-break", "a label that forges a line in a log", controls.format(forged), forged),
        first("label-written-backwards", "a label that looks like another", controls.format(backwards), backwards),
        first("label-with-comma", "a label that reads as two", separators.format("bear,deer"), "bear,deer"),
        first("label-with-colon", "a label that names a bundle", separators.format("other:bear"), "other:bear"),
        first(
            "label-with-space-around",
            "a label that no request can spell",
            "the label ' bear' must not begin or end with white space",
            " bear",
        ),
        invalid(
            "group-of-strangers",
            "a group with a label that is none",
            "the group 'pets' must hold one or more of the labels, each once",
            {"groups": {"pets": ["bear", "dog"]}},
        ),
    ]


def combinations() -> list[HostileBundle]:
    """Manifests that contradict themselves."""
    encoders = "a memory has a query encoder if, and only if, its queries are images"
    return [
        invalid("encoder-missing", "picture queries without an encoder", encoders, {"queries": "images"}),
        invalid("encoder-unwanted", "label queries with an encoder", encoders, encoder()),
        invalid(
            "initial-without-encoder",
            "classifiers that begin with an encoder that label queries do not have",
            "a memory whose queries are labels has no encoder for its classifiers to begin with",
            {"retraining": {"initial": "encoder"}},
        ),
        invalid(
            "budget-too-good",
            "a claim of half an image per class, by a memory of more",
            "20 numbers are more than the 16 of the 0.5 images per class that the budget claims",
            {"budget": {"images_per_class": 0.5}},
        ),
        changed(
            "network-too-deep",
            "retraining that cannot run on these images",
            "the manifest's network cannot be built: "
            "images of 4x4 are too small for 3 poolings; use a depth of 2 or less",
            {"retraining": {"network": {"depth": 3}}},
        ),
    ]


def contradictions() -> list[HostileBundle]:
    """Manifests that contradict the tensors."""
    queries = "the memory takes queries of 2 numbers, not of the {}"
    of_64 = {"queries": "images"} | encoder(query_size=64)
    memory = (
        "the manifest describes a memory addressed_bases {'depth': 4, 'height': 4, 'targets': 'hard', 'width': 4}, "
    )
    return [
        changed("encoder-of-other-size", "queries of 64", queries.format("64 numbers of the query encoder"), of_64),
        changed(
            "labels-three", "a memory of two labels", queries.format("3 labels"), {"labels": ["bear", "deer", "elk"]}
        ),
        changed(
            "memory-unknown",
            "a memory that this code does not have",
            "the memory kind 'dreams' is not one of stored_items, addressed_bases, multi_formation, described_classes, "
            "sparse_bases, latent_codes, generator, hallucinators",
            {"memory": {"kind": "dreams"}},
        ),
        changed(
            "preprocessing-unknown",
            "a preprocessing that this code does not have",
            "the preprocessing 'magic' is not one of standardise, zca, projected, spectral",
            {"preprocessing": "magic"},
        ),
        changed(
            "setting-missing",
            "a memory that does not say what its targets are",
            "'targets' is missing: a memory addressed_bases with preprocessing standardise needs it",
            {"memory": {"settings": {"targets": None}}},
        ),
        changed(
            "setting-extra",
            "a setting that the memory does not have",
            memory + "but the tensors make addressed_bases {'targets': 'hard', 'height': 4, 'width': 4}",
            {"memory": {"settings": {"depth": 4}}},
        ),
        changed(
            "setting-as-text",
            "a height in words",
            "height and width must be whole numbers, not 'four'",
            {"memory": {"settings": {"height": "four"}}},
        ),
        changed(
            "image-of-other-size",
            "colour images of a grey memory",
            "the manifest describes images of [3, 4, 4], but the memory recalls [1, 4, 4]",
            {"image": {"channels": 3}},
        ),
        changed(
            "budget-of-other-memory",
            "a smaller memory than there is",
            "the manifest's budget is 19 numbers, but the memory stores 20",
            {"budget": {"numbers_stored": 19}},
        ),
    ]
