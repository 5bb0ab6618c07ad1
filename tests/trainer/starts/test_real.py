"""Real items as a start: which are chosen, and that a memory holds them as they are."""

from __future__ import annotations

import itertools

import pytest
import torch

from recall_server.core.memory import StoredItems
from tests.trainer.data_examples import rows
from trainer.data.datasets import ImageDataset
from trainer.methods.named import compose
from trainer.methods.specs.problem import Problem
from trainer.run.setup.build import fit_preprocessing
from trainer.starts.real.selection import at_random, herding, k_center


def test_herding_keeps_the_running_mean_close_to_the_mean_of_all() -> None:
    features = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) + 3
    order = herding(features, 20)
    assert len(set(order.tolist())) == 20
    assert int(order[0]) == int((features - features.mean(0)).norm(dim=1).argmin())
    chosen = (features[order].mean(0) - features.mean(0)).norm()
    drawn = torch.stack([features[torch.randperm(100)[:20]].mean(0) for _ in range(50)])
    assert chosen < (drawn - features.mean(0)).norm(dim=1).min()
    with pytest.raises(ValueError, match="cannot choose 101 of 100 items"):
        herding(features, 101)


def test_k_center_covers_all_rows_within_twice_the_smallest_radius() -> None:
    features = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(features, features)

    def radius(chosen: list[int]) -> float:
        return float(distances[:, chosen].min(dim=1).values.max())

    best = min(radius(list(chosen)) for chosen in itertools.combinations(range(12), 3))
    found = k_center(features, 3).tolist()
    assert found[0] == int((features - features.mean(0)).norm(dim=1).argmin())
    assert radius(found) <= 2 * best


def test_k_center_takes_equal_rows_once_each() -> None:
    assert sorted(k_center(torch.ones(4, 2), 4).tolist()) == [0, 1, 2, 3]


def test_random_rows_are_distinct_and_follow_the_generator() -> None:
    features = torch.zeros(30, 1)
    first, again, other = (at_random(features, 10, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert len(set(first.tolist())) == 10
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("selection", ["random", "herding", "k-center"])
def test_a_memory_of_real_pictures_holds_unchanged_pictures_of_each_class(
    selection: str, bars_dataset: ImageDataset
) -> None:
    network = "convnet:filters=4,depth=2"
    method = compose(selection, [f"start.network={network}", "start.training_steps=2"])
    fitted = fit_preprocessing(bars_dataset, method)
    problem = Problem(bars_dataset, fitted, torch.Generator().manual_seed(0), torch.device("cpu"))
    budget = method.budget(bars_dataset, images_per_class=4, bases=1)
    memory = method.build(problem, budget).memory
    assert isinstance(memory, StoredItems) and memory.rows == 4
    for label in range(3):
        own = rows(fitted.to_model(bars_dataset.train.of_class(label, 100).pixels()))
        kept = rows(memory.stored[label].detach())
        assert len(kept) == 4 and kept <= own


def test_at_half_resolution_the_best_approximations_are_stored(bars_dataset: ImageDataset) -> None:
    method = compose("random", ["memory.resolution=half"])
    fitted = fit_preprocessing(bars_dataset, method)
    problem = Problem(bars_dataset, fitted, torch.Generator().manual_seed(0), torch.device("cpu"))
    memory = method.build(problem, method.budget(bars_dataset, images_per_class=1, bases=1)).memory
    assert memory.rows == 4 and memory.tensors()["items"].shape == (3, 4, 1, 4, 4)
    own = fitted.to_model(bars_dataset.train.pixels()).flatten(1)
    recalled = memory.items(torch.eye(3)).detach().flatten(0, 1).flatten(1)
    assert float(torch.cdist(recalled, own).min(dim=1).values.max()) < float(own.norm(dim=1).mean())


def test_a_start_of_real_items_names_the_memories_that_can_hold_them() -> None:
    with pytest.raises(ValueError, match="start=real needs a memory with items, which addressed_bases is not"):
        compose("window", ["start=real"])


def test_a_method_without_an_objective_takes_no_outer_step() -> None:
    with pytest.raises(ValueError, match="the objective none trains nothing"):
        compose("random", ["outer.steps=3"])
