"""Images of several memories as one training set: size, channels, rows, schedule and model space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.io.pictures import decode, encode_png
from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import AbstractPreprocessing, Projected, Standardise
from recall_server.recall import BundleQuery, build_training_set, crop_and_resize, shared_format
from tests.recall_server.bundle_examples import (
    example_manifest,
    example_memory,
    example_preprocessing,
    shares,
    with_soft_targets,
)
from tests.recall_server.serving_examples import COLUMNS, RETRAINING, ROWS, label_bundle, picture
from tests.tolerances import assert_close, rounding


def query(bundle: MemoryBundle, label: str) -> BundleQuery:
    return BundleQuery(bundle, bundle.label_queries([label])[0])


def drawn(
    name: str, *, side: int = 8, channels: int = 1, rows: int = 2, projected: bool = False, **changed: Any
) -> MemoryBundle:
    """A memory of random bases; `changed` replaces keys of its schedule."""
    memory = example_memory(side=side, channels=channels, rows=rows)
    preprocessing: AbstractPreprocessing = example_preprocessing(channels)
    if projected:
        preprocessing = Projected.onto(memory.span(), example_preprocessing(channels), 0.3)
    manifest = example_manifest(
        memory, preprocessing, name=name, retraining=RETRAINING.model_copy(update={"rows_per_class": 2} | changed)
    )
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)


def recalled(bundle: MemoryBundle, label: str) -> Tensor:
    """[r, C, H, W] in pixel space."""
    return bundle.recall_pixels(bundle.label_queries([label]))[0]


def test_queries_to_one_memory_keep_its_space_and_schedule() -> None:
    bundle = label_bundle("columns", tuple(COLUMNS))
    met = build_training_set([query(bundle, "right"), query(bundle, "left")])
    assert torch.equal(met.images, bundle.memory.items(bundle.label_queries(["right", "left"])))
    assert met.preprocessing is bundle.preprocessing
    assert met.retraining == bundle.manifest.retraining
    assert torch.equal(met.targets[:, 0], torch.eye(2))


def test_soft_targets_apply_within_a_memory_and_hard_ones_across() -> None:
    soft = with_soft_targets(drawn("soft"))
    met = build_training_set([query(soft, "class 2"), query(soft, "class 0")])
    asked = shares(soft)[[2, 0]][:, [2, 0]]
    assert_close(met.targets[:, 0], asked / asked.sum(dim=1, keepdim=True), terms=3)
    across = build_training_set([query(soft, "class 2"), query(drawn("other", side=16), "class 0")])
    assert torch.equal(across.targets[:, 0], torch.eye(2))


def test_small_and_grey_images_are_enlarged_and_coloured() -> None:
    small, large = drawn("small", side=8, rows=3), drawn("large", side=16, channels=3, rows=5)
    met = build_training_set([query(small, "class 0"), query(large, "class 2"), query(small, "class 1")])
    assert met.images.shape == (3, 5, 3, 16, 16)
    assert torch.equal(met.images[0, 3:], met.images[0, :2]), "rows are repeated in turn"
    pixels = met.preprocessing.to_pixels(met.images.flatten(0, 1)).view_as(met.images)
    assert_close(pixels[1], recalled(large, "class 2"), terms=4)
    assert_close(pixels[0, :3], crop_and_resize(recalled(small, "class 0"), (3, 16, 16)), terms=4)
    assert_close(pixels[0, :, 0], pixels[0, :, 2], terms=4)  # grey is the same in all channels
    flat = met.images.transpose(0, 2).flatten(1)
    assert_close(flat.mean(dim=1), torch.zeros(3), terms=4, size=1)
    assert_close(flat.std(dim=1, correction=0), torch.ones(3), terms=4)


@pytest.mark.parametrize("size", [(8, 8), (12, 6), (5, 20), (16, 16), (40, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_recalled_image_is_cropped_and_resized_like_an_upload(size: tuple[int, int], channels: int) -> None:
    generator = np.random.default_rng(3)
    image = generator.integers(0, 256, (1, *size)).astype(np.float32) / 255
    sent = decode(encode_png(image), (channels, 16, 16))
    ours = crop_and_resize(torch.from_numpy(image)[None], (channels, 16, 16))[0]
    np.testing.assert_allclose(ours.numpy(), sent, atol=1 / 255 + rounding(torch.float32))  # to bytes


def test_colour_never_becomes_grey() -> None:
    with pytest.raises(ValueError, match="images of 3 channels cannot become images of 1"):
        crop_and_resize(torch.zeros(1, 3, 8, 8), (1, 8, 8))


def test_the_schedule_is_chosen_by_image_size_then_queries_then_length() -> None:
    small, large = drawn("small", steps=90), drawn("large", side=16, steps=10)
    assert shared_format([small, small, large]).retraining.steps == 10
    short, long = drawn("short", steps=20), drawn("long", steps=30)
    assert shared_format([short, long]).retraining.steps == 30
    assert shared_format([short, long, short]).retraining.steps == 20
    twin, other = drawn("a", steps=20, learning_rate=0.1), drawn("b", steps=20, learning_rate=0.2)
    for order in ([twin, other], [other, twin]):
        assert shared_format(order).retraining.learning_rate == 0.1, "the order of the labels decides nothing"
    with pytest.raises(ValueError, match="one query or more"):
        shared_format([])


def test_pretrained_layers_are_used_within_a_memory_and_not_across() -> None:
    encoder = EncoderReference(file="a.onnx", sha256="0" * 64, query_size=3)
    warm, plain = drawn("warm", side=16), drawn("plain")
    schedule = warm.manifest.retraining.model_copy(update={"initial": "encoder"})
    changed = {"retraining": schedule, "queries": "images", "query_encoder": encoder}
    warm = MemoryBundle(warm.manifest.model_copy(update=changed), warm.memory, warm.preprocessing)
    learned = {"block0.norm.scale": torch.ones(8)}
    asked = [BundleQuery(warm, vector, learned) for vector in torch.eye(3)[:2]]
    met = build_training_set(asked)
    assert (met.retraining.initial, met.pretrained) == ("encoder", learned)
    met = build_training_set([*asked, query(plain, "class 0")])
    assert (met.retraining.initial, met.pretrained) == ("random", None)


def test_augmentation_is_limited_to_what_every_memory_allows() -> None:
    digits, things = drawn("digits"), drawn("things", augmentation="flip")
    photos = drawn("photos", side=16, augmentation="flip+rotate")
    assert shared_format([photos, things]).retraining.augmentation == "flip"
    assert shared_format([photos, things, digits]).retraining.augmentation == "none"
    assert shared_format([photos]).retraining.augmentation == "flip+rotate"
    turned, upright = drawn("turned", augmentation="dsa"), drawn("upright", augmentation="dsa-digits")
    assert shared_format([photos, turned]).retraining.augmentation == "flip+rotate"
    assert shared_format([turned, upright]).retraining.augmentation == "dsa-digits"
    assert shared_format([things, upright]).retraining.augmentation == "none", "digits must not be mirrored"


def test_pictures_are_projected_onto_the_bases_of_all_memories() -> None:
    one, other = drawn("one", side=8, projected=True), drawn("other", side=16, projected=True)
    assert isinstance(other.memory, AddressedBases)
    met = build_training_set([query(one, "class 0"), query(other, "class 1")])
    space = met.preprocessing
    assert isinstance(space, Projected)
    assert float(space.rest) == pytest.approx(0.3)
    pixels = space.to_pixels(met.images.flatten(0, 1))
    # Nothing that is recalled is faded; a projection sums up all numbers of an image.
    assert_close(space.standard.to_model(pixels), met.images.flatten(0, 1), terms=2 * 16 * 16)
    mixed = build_training_set([query(one, "class 0"), query(drawn("plain", side=16), "class 1")]).preprocessing
    assert isinstance(mixed, Standardise), "one of them was made for pictures as they are"


def test_a_classifier_of_two_memories_with_different_sizes_generalises() -> None:
    columns = label_bundle("columns", tuple(COLUMNS))
    places = label_bundle("places", ("near", "middle", "far"), side=16, based=True)
    met = build_training_set([query(columns, "left"), query(places, "far")])
    assert met.images.shape == (2, ROWS, 1, 16, 16)
    classifier = FreshClassifier(["left", "far"], (1, 16, 16), met.preprocessing, met.retraining)
    classifier.fit(met.images, met.targets)
    for label, column in (("left", "left"), ("far", "right")):
        shown = np.stack([picture(column, seed, side=16) for seed in range(500, 520)])[:, None] / 255
        assert classifier.predict(torch.from_numpy(shown).float()) == [label] * 20
