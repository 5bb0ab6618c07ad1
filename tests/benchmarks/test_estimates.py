"""Estimates from pictures left out and their intervals, on made-up features."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from benchmarks.estimates import WAYS, episode, summary
from benchmarks.few_shot_features import Pictures, draw
from recall_server.core.classifier.class_statistics import ClassStatistics, TwoCovariances

CLASSES, EACH, WIDTH, SHOTS = 7, 40, 24, 4


def test_intervals_of_pictures_left_out_are_compared_with_other_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    means = torch.rand(CLASSES, WIDTH, generator=generator)
    features = normalize(means[labels] + 0.3 * torch.rand(len(labels), WIDTH, generator=generator), dim=1)
    model = TwoCovariances(ClassStatistics.of_features(features, labels, CLASSES, 8))
    pictures = Pictures(features, labels)
    drawn = draw(labels, SHOTS, 5, generator)
    rows = torch.tensor([episode(pictures, shown, SHOTS, model) for shown in drawn.shown])
    left_out = summary(rows[:, 0])
    assert drawn.shown.shape == (5, WAYS * SHOTS)
    assert left_out["covered"] > 50
    assert abs(left_out["bias"]) < 20


def test_an_accuracy_outside_the_interval_is_not_covered() -> None:
    assert summary(torch.tensor([[-0.1, 0.1, 0.0], [0.1, 0.2, 0.15]])) == {"covered": 50.0, "width": 15.0, "bias": 7.5}
