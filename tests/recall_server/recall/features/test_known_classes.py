"""Which memories say how their classes vary, and in whose features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from recall_server.core.memory.storage import fake_quantise
from recall_server.core.preprocessing import Standardise
from recall_server.recall.features.known_classes import class_model, mean_features, most_knowing
from tests.recall_server.feature_examples import feature_library, statistics_bundle
from tests.tolerances import assert_close

WIDTH = 12


def test_described_classes_make_a_model_in_the_features_of_the_encoder() -> None:
    bundle, means = statistics_bundle(8, WIDTH)
    moved = Standardise(torch.full((WIDTH,), 0.5), torch.full((WIDTH,), 2.0))
    plain, scaled = class_model(bundle), class_model(replace(bundle, preprocessing=moved))
    assert plain is not None
    assert scaled is not None
    assert_close(plain.centre, means.mean(dim=0), terms=8 * WIDTH)
    assert_close(scaled.centre, 2 * means.mean(dim=0) + 0.5, terms=8 * WIDTH)
    assert_close(scaled.known, plain.known, terms=8 * WIDTH, gain=10)
    assert_close(mean_features(bundle, torch.eye(8)[2:3])[0], means[2], terms=WIDTH)


def test_rounding_does_not_hide_the_deviations() -> None:
    bundle, _ = statistics_bundle(8, WIDTH)
    assert class_model(replace(bundle, memory=fake_quantise(bundle.memory, "int8"))) is not None


def test_a_memory_whose_space_is_oblique_makes_no_model() -> None:
    bundle, _ = statistics_bundle(8, WIDTH)
    oblique = Standardise(torch.zeros(WIDTH), torch.arange(1.0, 1 + WIDTH))
    assert class_model(replace(bundle, preprocessing=oblique)) is None


def test_distilled_memories_know_nothing_of_other_classes(tmp_path: Path) -> None:
    library = feature_library(tmp_path, ("columns", {"left": "left", "right": "right"}))
    (loaded,) = library.bundles.values()
    assert loaded.feature_encoder is not None
    assert most_knowing([loaded], loaded.feature_encoder.sha256) is None
