"""Every way of learning from a few pictures tells clear classes apart, on made-up features."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from benchmarks.alternatives import TESTS, WAYS, Episode, LastLayer, measure, ways
from benchmarks.few_shot_features import Pictures
from recall_server.core.classifier.class_statistics import ClassStatistics, TwoCovariances

WIDTH, CELLS, SHOTS = 32, 4, 2


def test_all_ways_learn_from_the_same_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(WAYS).repeat_interleave(SHOTS + TESTS)
    means = torch.rand(WAYS, WIDTH, generator=generator)
    cells = means[labels].unsqueeze(1) + 0.1 * torch.randn(len(labels), CELLS, WIDTH, generator=generator)
    features = normalize(cells.clamp(0, 6).mean(dim=1).sqrt(), dim=1)
    layer = LastLayer(torch.eye(WIDTH), torch.zeros(WIDTH), cells.half())
    model = TwoCovariances(ClassStatistics.of_features(features, labels, WAYS, 8))
    positions = torch.arange(len(labels)).unflatten(0, (WAYS, SHOTS + TESTS))
    shown, tested = positions[:, :SHOTS].flatten(), positions[:, SHOTS:].flatten()
    episode = Episode(shown, torch.arange(WAYS).repeat_interleave(SHOTS), tested)
    figures = measure(ways(Pictures(features, labels), layer, model), [episode, episode])
    for way in ("server", "logistic_regression", "teachable_machine", "fine_tuned"):
        accuracy = figures[way]
        assert isinstance(accuracy, list)
        assert accuracy[0] > 90, way
        assert figures[f"{way}_seconds"] is not None
    assert "server_over_fine_tuned" in figures
