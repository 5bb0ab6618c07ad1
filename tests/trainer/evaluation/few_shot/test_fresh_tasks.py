"""Accuracies over tasks are the same whether their networks are trained together or one after another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset, Split
from trainer.evaluation.few_shot.fresh_tasks import FreshTask, fresh_accuracies

CPU = torch.device("cpu")
RETRAINING = Retraining(network=NetworkSpec(filters=4, depth=2), steps=2, learning_rate=0.003, rows_per_class=4)


def tasks(data: ImageDataset, rows: tuple[int, ...]) -> Iterator[FreshTask]:
    """Pairs of classes with so many training pictures of each, each in a model space of its own."""
    for seed, count in enumerate(rows):
        space = Standardise(torch.tensor([0.1 * seed]), torch.tensor([0.3]))
        pictures = torch.stack([data.train.of_class((label + seed) % 3, count).pixels() for label in range(2)])
        members = [data.test.of_class((label + seed) % 3, 9) for label in range(2)]
        test = Split(torch.cat([each.images for each in members]), torch.arange(2).repeat_interleave(9))
        yield FreshTask(space.to_model(pictures.flatten(0, 1)).view_as(pictures), space, test, seed)


@pytest.mark.parametrize("rows", [(5,) * 7, (5, 5, 6, 6, 6, 5)], ids=["of one shape", "of two shapes"])
def test_networks_trained_together_have_the_accuracies_of_single_ones_in_order(
    bars_dataset: ImageDataset, rows: tuple[int, ...]
) -> None:
    alone = fresh_accuracies(tasks(bars_dataset, rows), RETRAINING, device=CPU)
    assert len(set(alone)) > 1, "or their order would not show"
    assert fresh_accuracies(tasks(bars_dataset, rows), RETRAINING, device=CPU, together=3) == pytest.approx(alone)


def test_networks_that_cannot_be_trained_together_are_trained_one_by_one(bars_dataset: ImageDataset) -> None:
    dense = RETRAINING.model_copy(update={"network": NetworkSpec.parse("mlp:hidden=8")})
    alone = fresh_accuracies(tasks(bars_dataset, (5, 5)), dense, device=CPU)
    assert fresh_accuracies(tasks(bars_dataset, (5, 5)), dense, device=CPU, together=2) == alone


def test_without_tasks_there_are_no_accuracies() -> None:
    assert fresh_accuracies([], RETRAINING, device=CPU) == ()
