"""Memories of codes: how large they may be, what is frozen of them, and where they start."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.memory import ImageGenerator, LatentCodes
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.specs.problem import Problem
from trainer.run.setup.build import fit_preprocessing
from trainer.starts.decoded.autoencoder import autoencoded
from trainer.starts.training_data import TrainingData

CPU = torch.device("cpu")
SMALL = ["memory.channels=2", "memory.filters=6"]


def start(method: Method, data: ImageDataset, images_per_class: float) -> LatentCodes | ImageGenerator:
    problem = Problem(data, fit_preprocessing(data, method), torch.Generator().manual_seed(0), CPU)
    budget = method.budget(data, images_per_class=images_per_class, bases=0)
    memory = method.build(problem, budget).memory
    assert isinstance(memory, LatentCodes | ImageGenerator)
    assert memory.stored_numbers() == method.memory.numbers(method.shape(data), 0, budget.rows)
    return memory


def test_a_budget_holds_as_many_codes_as_fit_beside_the_decoders(bars_dataset: ImageDataset) -> None:
    method = compose("kfs", [*SMALL, "start.steps=1", "memory.decoders=3"])
    decoders = 3 * (9 * 6 * (2 + 6 + 1) + 2 * 6 + 1)
    codes = (12 * 3 * 64 - decoders) // (3 * 2 * 2 * 2)
    memory = start(method, bars_dataset, 12)
    assert memory.rows == 3 * codes
    with pytest.raises(ValueError, match="3 stored items of each class do not fit in 7 images per class"):
        method.budget(bars_dataset, images_per_class=7, bases=0, rows=3)


def test_a_generator_recalls_as_many_rows_as_its_spec_allows_if_there_is_room(bars_dataset: ImageDataset) -> None:
    method = compose("gtn", [*SMALL, "memory.noise_size=5", "memory.most_rows=7"])
    assert start(method, bars_dataset, 100).rows == 7
    assert 1 <= start(method, bars_dataset, 3).rows < 7


def test_all_tensors_of_a_frozen_name_stay_as_they_are(bars_dataset: ImageDataset) -> None:
    memory = start(compose("it-gan", [*SMALL, "start.steps=1"]), bars_dataset, 12)
    assert set(memory.learned()) == {"codes"}
    with pytest.raises(ValueError, match="there is no tensor 'decoder' to freeze; there are codes, decoders.first"):
        start(compose("it-gan", [*SMALL, "memory.frozen=decoder"]), bars_dataset, 12)


def test_an_autoencoder_gives_codes_from_which_real_pictures_of_each_class_are_decoded(
    bars_dataset: ImageDataset,
) -> None:
    method = compose("kfs", [*SMALL, "memory.decoders=2"])
    fitted, generator = fit_preprocessing(bars_dataset, method), torch.Generator().manual_seed(0)
    drawn = method.memory.noise(method.shape(bars_dataset), 0, 8, "xavier", generator)
    assert isinstance(drawn, LatentCodes)
    errors = []
    for steps in (1, 300):
        seeded = torch.Generator().manual_seed(1)
        memory = autoencoded(drawn, TrainingData(bars_dataset.train, fitted, seeded), steps=steps)
        recalled = memory.items(torch.eye(3))
        real = torch.stack([fitted.to_model(bars_dataset.train.of_class(label, 30).pixels()) for label in range(3)])
        nearest = torch.cdist(recalled.flatten(2), real.flatten(2)).min(dim=2).values
        errors.append(float(nearest.mean()))
    assert errors[1] < 0.6 * errors[0]


def test_a_start_from_codes_names_the_memories_that_have_them() -> None:
    with pytest.raises(ValueError, match="start=autoencoder needs a memory with codes, which stored_items is not"):
        compose("dm", ["start=autoencoder"])
