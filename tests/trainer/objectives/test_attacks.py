"""Attacks stay within epsilon and within pictures, do what a loop over numbers does, and make networks err."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from recall_server.core.networks import ConvNet
from recall_server.core.preprocessing import ZCA, Standardise
from tests.tolerances import assert_close
from trainer.objectives.attacks import REACH, NoAttack, ProjectedGradient

NETWORK = ConvNet(channels=1, height=8, width=8, classes=3, filters=4, depth=1)
PARAMETERS = {name: value.double() for name, value in NETWORK.initialise(torch.Generator().manual_seed(0)).items()}
PIXELS = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGETS = one_hot(torch.arange(6) % 3).double()


def logits(images: Tensor) -> Tensor:
    return NETWORK.logits(PARAMETERS, images)


def naive(start: Tensor, epsilon: float, steps: int) -> Tensor:
    """PGD (Madry et al., 2018, section 2) from `start`, a picture at a time and a pixel at a time."""
    found = start.clone()
    for picture, target in enumerate(TARGETS):
        for _ in range(steps):
            leaf = found[picture : picture + 1].clone().requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(logits(leaf), target[None]), leaf)
            for row in range(8):
                for column in range(8):
                    moved = float(found[picture, 0, row, column])
                    moved += REACH * epsilon / steps * float(slope[0, 0, row, column].sign())
                    original = float(PIXELS[picture, 0, row, column])
                    moved = min(max(moved, original - epsilon), original + epsilon)
                    found[picture, 0, row, column] = min(max(moved, 0.0), 1.0)
    return found


def test_steps_are_those_of_a_naive_loop() -> None:
    noise = torch.rand(PIXELS.shape, generator=torch.Generator().manual_seed(2)).double()
    start = (PIXELS + 0.2 * (2 * noise - 1)).clamp(PIXELS - 0.2, PIXELS + 0.2).clamp(0, 1)
    found = ProjectedGradient(0.2, 5)(logits, PIXELS, TARGETS, torch.Generator().manual_seed(2))
    assert_close(found, naive(start, 0.2, 5), terms=5)


def test_no_pixel_leaves_the_box_or_the_range_of_pictures() -> None:
    found = ProjectedGradient(0.3, 4)(logits, PIXELS, TARGETS, torch.Generator().manual_seed(0))
    assert float((found - PIXELS).abs().max()) <= 0.3 + torch.finfo(torch.float64).eps
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    outside = 3 * PIXELS - 1
    found = ProjectedGradient(0.1, 2)(logits, outside, TARGETS, torch.Generator().manual_seed(0))
    assert float((found - outside).abs().max()) <= 0.1 + 4 * torch.finfo(torch.float64).eps, "whitened, then rotated"


def test_the_loss_grows_and_more_steps_find_more() -> None:
    def loss(steps: int) -> float:
        attacked = ProjectedGradient(0.1, steps)(logits, PIXELS, TARGETS, torch.Generator().manual_seed(0))
        return float(cross_entropy(logits(attacked), TARGETS))

    assert float(cross_entropy(logits(PIXELS), TARGETS)) < loss(2) <= loss(40) + 1e-3


def test_epsilon_is_of_pixels_whatever_networks_see() -> None:
    for space in (Standardise.fit(PIXELS), ZCA.fit(PIXELS)):
        attack = ProjectedGradient(0.05, 3).in_space(space)
        found = attack(logits, space.to_model(PIXELS), TARGETS, torch.Generator().manual_seed(0))
        change = (space.to_pixels(found) - PIXELS).abs().max()
        assert_close(change.float(), torch.tensor(0.05), gain=10, size=1)  # preprocessings store float32


def test_no_attack_changes_nothing_and_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert NoAttack().in_space(Standardise.fit(PIXELS))(logits, PIXELS, TARGETS, generator) is PIXELS
    assert torch.equal(generator.get_state(), before)
