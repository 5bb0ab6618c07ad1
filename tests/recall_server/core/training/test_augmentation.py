"""Augmentation: a pure function of images and generator, one draw per image, differentiable, exact flips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recall_server.core.training.augmentation import (
    AUGMENTATIONS,
    LARGEST_ANGLE,
    OPERATIONS,
    augment,
    common_augmentation,
)
from tests.tolerances import assert_close


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(number: int = 6, height: int = 8, width: int = 8) -> Tensor:
    return torch.randn(number, 3, height, width, generator=_generator(1))


def _point(row: int, column: int, height: int, width: int, number: int) -> Tensor:
    """A smooth spot at (row, column) of each of `number` images, so that bilinear sampling hardly moves its middle."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    spot = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8.0)
    return spot.expand(number, 1, height, width)


def _middle(images: Tensor) -> Tensor:
    """Centre of mass of each image, [N, 2], as (down, right) from the middle of the picture."""
    height, width = images.shape[2:]
    mass = images[:, 0]
    down = torch.arange(height) - (height - 1) / 2
    right = torch.arange(width) - (width - 1) / 2
    total = mass.sum((1, 2))
    return torch.stack([(mass.sum(2) * down).sum(1) / total, (mass.sum(1) * right).sum(1) / total], dim=1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_depends_only_on_the_generator(name: str) -> None:
    images = _images()
    before, state = images.clone(), torch.get_rng_state()
    first, again = (augment(images, AUGMENTATIONS[name], _generator(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, images) == (name == "none")


def test_a_flip_mirrors_about_half_of_the_images_exactly() -> None:
    images = _images(400)
    flipped = augment(images, ("flip",), _generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize(("height", "width"), [(33, 33), (33, 65)])
def test_a_rotation_turns_by_up_to_15_degrees_and_keeps_distances(height: int, width: int) -> None:
    images = _point(height // 2, width // 2 + 10, height, width, number=200)
    turned = _middle(augment(images, ("rotate",), _generator()))
    angles = torch.atan2(turned[:, 0], turned[:, 1])
    assert bool(((turned.norm(dim=1) - 10).abs() < 0.1).all()), "a tenth of a pixel, by sampling"
    assert float(angles.abs().max()) <= LARGEST_ANGLE + 0.01
    assert float(angles.max()) > 0.8 * LARGEST_ANGLE
    assert float(angles.min()) < -0.8 * LARGEST_ANGLE
    assert abs(float(angles.mean())) < 5 * LARGEST_ANGLE / math.sqrt(3 * 200), "five deviations of a mean of 200"


def test_corners_exposed_by_a_rotation_are_zero() -> None:
    turned = augment(torch.ones(50, 1, 16, 16), ("rotate",), _generator())
    assert float(turned[:, :, 0, 0].min()) == 0.0
    assert_close(turned[:, :, 8, 8], torch.ones(50, 1), terms=4)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_reach_the_images(name: str) -> None:
    images = _images(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, AUGMENTATIONS[name], _generator(3)), images)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match="unknown augmentation 'blur'; there are flip, rotate, scale, color, crop, cut"
    ):
        augment(_images(), ("flip", "crop|blur"), _generator())


def test_batches_from_the_same_seed_are_augmented_alike_and_as_one_batch() -> None:
    images = _images(9)
    for name in ("color+crop+cutout", "dsa", "flip+rotate"):
        for seed in range(12):
            whole = augment(images, AUGMENTATIONS[name], _generator(seed), alike=True)
            parts = [augment(part, AUGMENTATIONS[name], _generator(seed), alike=True) for part in images.split([2, 7])]
            assert torch.equal(torch.cat(parts), whole)
    same = augment(images[:1].expand(5, -1, -1, -1), ("rotate",), _generator(), alike=True)
    assert torch.equal(same, same[:1].expand_as(same))


@pytest.mark.parametrize("operation", ["crop", "cutout", "scale", "color"])
def test_operations_of_siamese_augmentation_do_what_its_authors_do(operation: str) -> None:
    """Against the formulas of Zhao and Bilen (2021), number by number, for images with numbers of their own."""
    images = _images(5, 8, 12).double()
    count, apply = OPERATIONS[operation]
    numbers = torch.rand(count, len(images), generator=_generator(4), dtype=torch.float64)
    expected = torch.stack([NAIVE[operation](*each) for each in zip(images, numbers.T.tolist(), strict=True)])
    assert_close(apply(images, numbers), expected, terms=images[0].numel())


def _cropped(image: Tensor, numbers: list[float]) -> Tensor:
    height, width = image.shape[1:]
    down, right = (int(u * (2 * shift + 1)) - shift for u, shift in zip(numbers, (1, 2), strict=True))  # eighths
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                result[:, row, column] = image[:, row + down, column + right]
    return result


def _cut(image: Tensor, numbers: list[float]) -> Tensor:
    result = image.clone()
    middle = [int(u * (size + 1)) for u, size in zip(numbers, image.shape[1:], strict=True)]
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            if -4 // 2 <= row - middle[0] < 4 // 2 and -6 // 2 <= column - middle[1] < 6 // 2:
                result[:, row, column] = 0
    return result


def _scaled(image: Tensor, numbers: list[float]) -> Tensor:
    """Bilinear samples around the middle, zeros outside."""
    height, width = image.shape[1:]
    across, down = (u * (1.2 - 1 / 1.2) + 1 / 1.2 for u in numbers)
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - height / 2) * down + height / 2 - 0.5
            x = (column + 0.5 - width / 2) * across + width / 2 - 0.5
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        result[:, row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * image[:, i, j]
    return result


def _coloured(image: Tensor, numbers: list[float]) -> Tensor:
    brightness, saturation, contrast = numbers
    image = image + (brightness - 0.5)
    grey = image.sum(dim=0) / 3
    image = (image - grey) * 2 * saturation + grey
    return (image - image.mean()) * (contrast + 0.5) + image.mean()


NAIVE = {"crop": _cropped, "cutout": _cut, "scale": _scaled, "color": _coloured}


def test_one_of_several_operations_is_drawn_for_a_batch() -> None:
    image = _images(1)
    seen = [augment(image, ("flip|cutout",), _generator(seed)) for seed in range(40)]
    flipped = [seed for seed, each in enumerate(seen) if torch.equal(each, image.flip(3))]
    cut = [seed for seed, each in enumerate(seen) if bool((each == 0).any())]
    assert len(flipped) > 4
    assert len(cut) > 10
    assert not set(flipped) & set(cut)


def test_the_common_augmentation_has_only_operations_that_all_memories_allow() -> None:
    assert common_augmentation(["dsa", "flip+rotate"]) == "flip+rotate"
    assert common_augmentation(["dsa-digits", "flip"]) == "none"
    assert common_augmentation(["dsa", "dsa"]) == "dsa"
