"""A novelty score reads as a share of known pictures, and strangers score high."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.feature_novelty import FeatureNovelty

HEAD = LinearHead(torch.eye(3, 5), torch.zeros(3))


def known(count: int, seed: int) -> torch.Tensor:
    features = 0.5 * torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    features[torch.arange(count), torch.arange(count) % 3] += 4
    return features


def test_the_score_of_known_pictures_is_evenly_spread() -> None:
    scores = FeatureNovelty.of(HEAD, known(3000, 0)).score(known(3000, 1))
    assert abs(float((scores < 0.25).float().mean()) - 0.25) < 0.04
    assert abs(float(scores.mean()) - 0.5) < 0.03


def test_unknown_pictures_score_high() -> None:
    scores = FeatureNovelty.of(HEAD, known(300, 0)).score(torch.zeros(4, 5))
    assert bool((scores > 0.99).all())


def test_logits_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        FeatureNovelty(HEAD, torch.tensor([2.0, 1.0]))
