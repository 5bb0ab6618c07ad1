"""Pictures to learn from are seen whole and through crops of two corners."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recall_server.recall.features.views import MOST, features_of_views
from tests.tolerances import assert_close


class Colours:
    """An encoder whose features are the mean colours of each picture. It counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls += 1
        return pixels.mean(axis=(2, 3))


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 3, 16, 24), dtype=np.float32)


def test_a_plain_picture_looks_the_same_in_all_views() -> None:
    plain = np.full((2, 3, 16, 24), 0.25, dtype=np.float32)
    assert_close(features_of_views(Colours(), plain), torch.full((2, 3), 0.25), terms=16 * 24)


def test_views_are_crops_of_opposite_corners() -> None:
    """One of the three views leaves an edge out, and the others see it as large or larger."""
    edges = np.zeros((1, 4, 16, 24), dtype=np.float32)
    edges[0, 0, 0], edges[0, 1, -1], edges[0, 2, :, 0], edges[0, 3, :, -1] = 1, 1, 1, 1
    top, bottom, left, right = features_of_views(Colours(), edges)[0].tolist()
    assert_close([top, left], [bottom, right], terms=16 * 24, dtype=torch.float32)
    assert 0.5 / 16 < top < 1 / 16
    assert 0.5 / 24 < left < 1 / 24


def test_many_pictures_are_seen_once() -> None:
    few, many = Colours(), Colours()
    features_of_views(few, pictures(MOST))
    found = features_of_views(many, pictures(MOST + 1))
    assert (few.calls, many.calls) == (3, 1)
    assert_close(found, pictures(MOST + 1).mean(axis=(2, 3)))


def test_a_picture_without_finite_features_stays_so() -> None:
    def broken(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(np.arange(len(pixels))[:, None] == 1, np.nan, 1.0).astype(np.float32)

    assert features_of_views(broken, pictures(3)).isfinite().all(dim=1).tolist() == [True, False, True]
