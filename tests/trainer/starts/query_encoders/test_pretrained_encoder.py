"""An encoder that learns the classes before it addresses anything."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.networks import ConvNet, Parameters
from recall_server.core.preprocessing import Standardise
from recall_server.errors import TrainingFailed
from tests.trainer.streams.stream_examples import bars
from trainer.data.splits import Split
from trainer.starts.query_encoders import pretrained_encoder
from trainer.starts.training_data import TrainingData

CPU = torch.device("cpu")
PLAIN = Standardise(torch.tensor([0.2]), torch.tensor([0.25]))
ENCODER = ConvNet(channels=1, height=8, width=8, classes=2, filters=8, depth=2)


def start() -> Parameters:
    return ENCODER.initialise(torch.Generator().manual_seed(1))


def taught(split: Split, steps: int, seed: int = 0) -> Parameters:
    data = TrainingData(split, PLAIN, torch.Generator().manual_seed(seed))
    return pretrained_encoder.pretrain_encoder(ENCODER, start(), data, steps=steps, augmentation="none")


def between_over_within(parameters: Parameters, split: Split) -> float:
    """How far apart the classes' mean features are, in units of what is between pictures of one class."""
    features = ENCODER.features(parameters, PLAIN.to_model(split.pixels()))
    means = torch.stack([features[split.labels == label].mean(dim=0) for label in range(3)])
    within = (features - means[split.labels]).square().sum(dim=1).mean()
    return float((means - means.mean(dim=0)).square().sum(dim=1).mean() / within)


def test_a_pretrained_encoder_separates_classes_and_keeps_its_last_layer() -> None:
    parameters = taught(bars(300, 0), 60)
    assert between_over_within(parameters, bars(150, 0)) > 2 * between_over_within(start(), bars(150, 0))
    assert torch.equal(parameters["classifier.weight"], start()["classifier.weight"])
    assert parameters.keys() == start().keys()


def test_pretraining_is_reproducible() -> None:
    one, same, other = (taught(bars(60, 0), 3, seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_diverging_encoder_is_an_error_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_encoder, "RATE", float("inf"))
    with pytest.raises(TrainingFailed, match="encoder_steps"):
        taught(bars(60, 0), 3)
