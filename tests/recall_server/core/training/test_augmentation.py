"""Augmentation: a pure function of images and generator, one draw per image, differentiable, exact flips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recall_server.core.training.augmentation import AUGMENTATIONS, LARGEST_ANGLE, augment
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
def test_the_generator_alone_decides_and_nothing_else_changes(name: str) -> None:
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


def test_what_comes_in_at_the_corners_is_zero() -> None:
    turned = augment(torch.ones(50, 1, 16, 16), ("rotate",), _generator())
    assert float(turned[:, :, 0, 0].min()) == 0.0
    assert_close(turned[:, :, 8, 8], torch.ones(50, 1), terms=4)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_reach_the_images(name: str) -> None:
    images = _images(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, AUGMENTATIONS[name], _generator(3)), images)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown augmentation 'crop'; use 'flip' or 'rotate'"):
        augment(_images(), ("flip", "crop"), _generator())
