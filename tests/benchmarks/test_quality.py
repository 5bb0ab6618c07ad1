"""The benchmark of the quality estimate compares a promise with what it cannot have seen."""

from __future__ import annotations

import pytest
import torch

from benchmarks.quality import Comparison, figures, halves, relabelled
from trainer.data.datasets import Split


def numbered(labels: list[int]) -> Split:
    """Pictures whose one pixel is their number."""
    return Split(torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(labels))


def test_the_two_halves_are_disjoint_and_stratified() -> None:
    split = numbered([0, 1, 0, 1, 1, 0, 0, 1])
    one, other = halves(split, 2)
    assert sorted([*one.images.flatten().tolist(), *other.images.flatten().tolist()]) == list(range(8))
    assert one.labels.bincount().tolist() == other.labels.bincount().tolist() == [2, 2]


def test_a_task_holds_the_pictures_of_its_classes_under_its_own_numbers() -> None:
    task = relabelled(numbered([0, 1, 2, 1, 0]), [2, 0])
    assert task.images.flatten().tolist() == [2, 0, 4]
    assert task.labels.tolist() == [0, 1, 1]


def test_a_positive_bias_means_a_too_high_estimate() -> None:
    comparisons = [
        Comparison(("a", "b"), promised=0.9, otherwise=0.5, found=0.8),
        Comparison(("a", "c"), promised=0.9, otherwise=0.5, found=0.8),
        Comparison(("a", "b", "c"), promised=0.6, otherwise=0.5, found=0.8),
    ]
    told = figures("labels", comparisons)
    assert told["labels_bias"] == pytest.approx(0.0)
    assert told["labels_mean_absolute_error"] == pytest.approx(0.4 / 3, abs=1e-4)
    assert (told["labels_2_way_bias"], told["labels_3_way_bias"]) == (0.1, -0.2)
    assert told["labels_mean_absolute_error_without"] == pytest.approx(0.3)
    assert told["labels_classifiers"] == 3
