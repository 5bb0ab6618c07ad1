"""Pictures that are shown are learned from, each class from as many."""

from __future__ import annotations

import torch

from recall_server.recall import BundleQuery, add_own_pictures, build_training_set
from tests.recall_server.serving_examples import COLUMNS, label_bundle
from tests.tolerances import assert_close


def test_own_pictures_are_added_in_model_space_and_repeated_to_equal_numbers() -> None:
    bundle = label_bundle("columns", tuple(COLUMNS))
    met = build_training_set([BundleQuery(bundle, vector) for vector in bundle.label_queries(["left", "right"])])
    channels, side = met.images.shape[2], met.images.shape[3]
    generator = torch.Generator().manual_seed(0)
    few, many = (torch.rand(count, channels, side, side, generator=generator) for count in (2, 5))
    both = add_own_pictures(met, [few, many])
    recalled = met.images.shape[1]
    assert both.images.shape == (2, recalled + 5, *met.images.shape[2:])
    assert torch.equal(both.images[:, :recalled], met.images)
    assert torch.equal(both.targets, met.targets)
    shown = bundle.preprocessing.to_pixels(both.images[:, recalled:].flatten(0, 1)).unflatten(0, (2, 5))
    assert_close(shown[0], few[[0, 1, 0, 1, 0]], terms=4)
    assert_close(shown[1], many, terms=4)


def test_own_pictures_of_another_size_are_resized() -> None:
    bundle = label_bundle("columns", tuple(COLUMNS))
    met = build_training_set([BundleQuery(bundle, vector) for vector in bundle.label_queries(["left", "right"])])
    side = met.images.shape[3]
    shown = [torch.full((1, 1, 2 * side, 2 * side), value) for value in (0.25, 0.75)]
    added = bundle.preprocessing.to_pixels(add_own_pictures(met, shown).images[:, -1])
    assert_close(added[0], torch.full_like(added[0], 0.25), terms=16)
    assert_close(added[1], torch.full_like(added[1], 0.75), terms=16)
