"""A memory without a gradient step: what it spans, what it keeps, and pictures that have nothing to give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import Standardise
from tests.tolerances import assert_close
from trainer.data.enlargement import Enlargement
from trainer.data.second_moments import SecondMoments
from trainer.data.splits import Split
from trainer.evaluation.herding import herd
from trainer.starts.eigenvectors import principal_start, project, representatives
from trainer.starts.training_data import TrainingData

NUMBERS = 9 * 8  # of a noisy picture, which its coordinates sum up
PLAIN = Standardise(mean=torch.zeros(1), deviation=torch.ones(1))


def smooth_pictures(count: int, seed: int = 0) -> Split:
    """Mixtures of three half-resolution images, enlarged: pictures that a memory of three bases can hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    stored = torch.rand(3, 1, 4, 5, generator=generator)
    patterns = interpolate(stored, size=(8, 10), mode="bilinear", align_corners=False)
    mixtures = torch.rand(count, 3, generator=generator) / 3
    images = (torch.einsum("nk,kchw->nchw", mixtures, patterns) * 255).round().to(torch.uint8)
    return Split(images, torch.arange(count) % 2)


def noisy_pictures(count: int, channels: int = 1) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, channels, 9, 8), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count) % 2)


def make(split: Split, *, bases: int, rows: int, seed: int = 0, **options: object) -> AddressedBases:
    data = TrainingData(split, Standardise.fit(split.images), torch.Generator().manual_seed(seed))
    return principal_start(data, classes=("a", "b"), bases=bases, rows=rows, **options)  # type: ignore[arg-type]


def recalled_pixels(memory: AddressedBases, split: Split) -> Tensor:
    images = memory.items(torch.eye(2)).flatten(0, 1)
    return Standardise.fit(split.images).to_pixels(images)


def test_at_full_resolution_any_pictures_are_recalled_exactly() -> None:
    split = noisy_pictures(6)
    recalled = recalled_pixels(make(split, bases=6, rows=3, resolution="full"), split)
    nearest = split.pixels()[torch.cdist(recalled.flatten(1), split.pixels().flatten(1)).argmin(dim=1)]
    assert_close(recalled, nearest, terms=NUMBERS)


def test_pictures_in_the_span_of_the_bases_are_recalled_exactly() -> None:
    """Shrinking and enlarging them would blur them: what is stored is what enlarges to them."""
    split = smooth_pictures(40)
    recalled = recalled_pixels(make(split, bases=4, rows=20), split)
    distance = torch.cdist(recalled.flatten(1), split.pixels().flatten(1)).min(dim=1).values
    assert distance.max() < 0.03, "a rounding error of a 255th in each of 80 pixels"


def test_enlarged_directions_are_orthonormal_and_closest_to_the_pictures() -> None:
    split, half = noisy_pictures(30), Enlargement.from_half(9, 8)
    memory = AddressedBases(half.stored(torch.eye(half.numbers), 1), torch.zeros(1, 1, half.numbers), 9, 8)
    everything = memory.span().flatten(1)
    assert_close(everything @ everything.T, torch.eye(half.numbers), terms=NUMBERS)
    pixels = split.pixels()
    nearest = half.coordinates(pixels) @ everything
    wanted = pixels.flatten(1) @ torch.linalg.pinv(everything) @ everything
    assert_close(nearest, wanted, terms=2 * NUMBERS)


@pytest.mark.parametrize("channels", [1, 3])
def test_streamed_moments_equal_those_of_the_whole(channels: int) -> None:
    split, moments = noisy_pictures(50, channels), SecondMoments()
    for start in range(0, 50, 7):
        moments(split.select(torch.arange(start, min(start + 7, 50))))
    moments(split.select(torch.arange(0)))
    found, wanted = moments.standardise(), Standardise.fit(split.images)
    assert_close(found.mean, wanted.mean)
    assert_close(found.deviation, wanted.deviation)
    coordinates = Enlargement.from_half(9, 8).coordinates(found.to_model(split.pixels())).double()
    product = moments.standardised(found)
    assert product is not None
    assert_close(product, coordinates.T @ coordinates / 50, terms=NUMBERS, dtype=torch.float32)


def test_a_streamed_memory_equals_that_of_the_whole() -> None:
    split, moments = noisy_pictures(60), SecondMoments()
    for chunk in split.chunks(11):
        moments(chunk)
    one, other = make(split, bases=3, rows=4), make(split, bases=3, rows=4, moments=moments)
    assert_close(recalled_pixels(one, split), recalled_pixels(other, split), terms=NUMBERS, gain=10)


def test_the_same_seed_gives_the_same_memory() -> None:
    split = noisy_pictures(60)
    one, again = (make(split, bases=3, rows=4, seed=5) for _ in range(2))
    assert torch.equal(one.addressing, again.addressing)
    assert torch.equal(one.bases, again.bases)


def test_typical_pictures_are_pictures_and_centres_are_averages() -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    typical, centres = representatives(points, 5, 0), representatives(points, 5, 0, "centres")
    chosen = (typical[:, None] == points).all(dim=2)
    assert torch.equal(chosen.sum(dim=1), torch.ones(5, dtype=torch.int64))
    assert not (centres[:, None] == points).all(dim=2).any()
    assert torch.equal(torch.cdist(centres, points).argmin(dim=1), chosen.int().argmax(dim=1))


def test_a_class_with_few_pictures_repeats_them_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    split = smooth_pictures(40)
    few = split.select(torch.cat([torch.arange(0, 40, 2), torch.tensor([1, 3])]))
    memory = make(few, bases=3, rows=5)
    assert memory.addressing.shape == (5, 2, 3)
    assert len(torch.unique(memory.addressing[:, 1], dim=0)) == 2
    assert "fewer pictures than the 5 that are recalled of each class" in caplog.text
    assert "b (2)" in caplog.text


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(10, 1, 8, 8, dtype=torch.uint8),
        torch.full((10, 3, 8, 8), 200, dtype=torch.uint8),
        torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(10, 1, 8, 8),
        torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 8, 8) * 20,
    ],
    ids=["black", "one colour", "identical", "each of one shade"],
)
def test_identical_pictures_make_a_valid_memory(images: Tensor) -> None:
    split = Split(images.contiguous(), torch.arange(10) % 2)
    memory = make(split, bases=3, rows=3)
    assert all(bool(tensor.isfinite().all()) for tensor in memory.tensors().values())
    distance = torch.cdist(recalled_pixels(memory, split).flatten(1), split.pixels().flatten(1)).min(dim=1).values
    assert distance.max() < 0.6, "smooth as they are, they are recalled nearly as they were"


def test_more_bases_than_numbers_in_a_small_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="21 bases are more than the 20 numbers of a stored image"):
        make(smooth_pictures(40), bases=21, rows=1)


def test_pictures_too_large_for_their_moments_give_the_same_span(monkeypatch: pytest.MonkeyPatch) -> None:
    split = smooth_pictures(40)
    usual = recalled_pixels(make(split, bases=4, rows=20), split)
    monkeypatch.setattr("trainer.starts.eigenvectors.LARGEST", 5)
    few = recalled_pixels(make(split, bases=4, rows=20), split)
    assert torch.cdist(few.flatten(1), usual.flatten(1)).min(dim=1).values.max() < 0.05


def test_projecting_what_a_memory_recalls_gives_its_coefficients() -> None:
    split = smooth_pictures(40)
    memory = make(split, bases=3, rows=4)
    pixels = (recalled_pixels(memory, split) * 255).round().to(torch.uint8)
    recalled = Split(pixels, torch.zeros(len(pixels), dtype=torch.int64))
    found = project(memory, recalled, Standardise.fit(split.images))
    wanted = memory.addressing.transpose(0, 1).flatten(0, 1)
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_herded_pictures_are_of_their_class_and_repeated_if_too_few() -> None:
    split = noisy_pictures(8)
    chosen = herd(split, PLAIN, classes=2, each=5)
    assert chosen.shape == (2, 5, 1, 9, 8)
    for label in range(2):
        own = split.pixels()[split.labels == label].flatten(1)
        assert torch.cdist(chosen[label].flatten(1), own).min(dim=1).values.max() == 0
        assert len(torch.unique(chosen[label].flatten(1), dim=0)) == 4
