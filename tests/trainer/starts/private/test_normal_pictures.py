"""Private pictures are drawn from statistics that no picture changes by more than the noise hides."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.tolerances import assert_close
from trainer.data.enlargement import Enlargement
from trainer.data.splits import Split
from trainer.starts.private.class_statistics import Privacy
from trainer.starts.private.described_classes import Model
from trainer.starts.private.normal_pictures import coordinates, drawn_rows, private_pictures

LOOSE = Privacy(epsilon=1e6, noise_seed=0)


def pictures(count: int = 200) -> Split:
    """Two classes of noise around two patterns."""
    labels = torch.arange(count) % 2
    pattern = torch.tensor([64, 192])[labels].view(-1, 1, 1, 1)
    noise = torch.randint(-60, 60, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return Split((pattern + noise).to(torch.uint8), labels)


def made(**how: Any) -> Any:
    return private_pictures(pictures(), **{"classes": 2, "bases": 4, "rows": 6, "privacy": LOOSE, "seed": 0} | how)


def test_no_picture_is_longer_than_one() -> None:
    extremes = Split(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 6), torch.arange(2))
    longest = 0.5 * math.sqrt(3 * 8 * 6)
    found = coordinates(extremes, Enlargement.from_half(8, 6), longest).features
    assert_close(found.norm(dim=1), torch.ones(2), terms=3 * 8 * 6)


def test_the_mean_of_a_class_is_that_of_its_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    means, root = (torch.randn(3, 5, generator=generator).double() for _ in range(2))
    directions = torch.linalg.qr(torch.randn(5, 4, generator=generator).double()).Q.T
    rows = drawn_rows(Model(means, root.T @ root, torch.ones(3)), directions, 7, generator)
    assert_close(rows.mean(dim=0), means @ directions.T, terms=7)


def test_without_much_noise_classes_look_like_their_pictures() -> None:
    found = made()
    recalled = found.preprocessing.to_pixels(found.memory.items(torch.eye(2)).mean(dim=1))
    assert found.counts.tolist() == [100, 100]
    assert recalled.mean(dim=(1, 2, 3)).tolist() == pytest.approx([64 / 255, 192 / 255], abs=0.02)


def test_the_seed_of_the_drawing_is_not_that_of_the_noise() -> None:
    secret = Privacy(epsilon=1)
    first, second = (made(privacy=secret).memory.addressing for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(made().memory.addressing, made().memory.addressing)


def test_what_has_no_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="17 bases are more than the 16 numbers"):
        made(bases=17)
    large = Split(torch.zeros(2, 3, 128, 128, dtype=torch.uint8), torch.arange(2))
    with pytest.raises(ValueError, match="use --image-size 64, or an --encoder"):
        private_pictures(large, classes=2, bases=2, rows=2, privacy=LOOSE, seed=0)
