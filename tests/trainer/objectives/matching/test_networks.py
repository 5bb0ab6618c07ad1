"""Networks between comparisons: fresh, or trained on recalled or real items, with torch's own optimiser as oracle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import Parameters
from tests.tolerances import assert_close
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, ages, images, sampler
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.matching.cut_mix import cut_mix
from trainer.objectives.matching.networks import (
    MATCHINGS,
    NETWORKS,
    AbstractNetworks,
    FreshNetworks,
    NetworksTrainedOnReal,
    NetworksTrainedOnRecalled,
    authors_loops,
)

CPU, STEP = torch.device("cpu"), DifferentiatedStep(NETWORK, compiled=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_recalled(loops: int = 3, epochs: int = 4, batch: int = 99) -> NetworksTrainedOnRecalled:
    return NetworksTrainedOnRecalled(STEP, loops, epochs, rate=0.1, batch=batch)


def on_real(**changed: object) -> NetworksTrainedOnReal:
    fields = {"loops": 3, "items": 30, "batch": 10, "rate": 0.1, "momentum": 0.9, "weight_decay": 0.05, "mixed": 0.0}
    return NetworksTrainedOnReal(STEP, **(fields | changed))  # type: ignore[arg-type]


def same(one: Parameters, other: Parameters) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_fresh_networks_are_new_for_every_loss() -> None:
    networks = FreshNetworks(NETWORK)
    state = networks.begin(generator())
    first, second = (networks.parameters(state, generator(seed), CPU) for seed in (0, 1))
    assert same(first, NETWORK.initialise(generator(0)))
    assert not same(first, second)
    assert ages(networks, 3) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("networks", [on_recalled(), on_real()], ids=["recalled", "real"])
def test_a_network_is_replaced_after_a_number_of_comparisons(networks: AbstractNetworks) -> None:
    assert ages(networks, 5) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    state = networks.begin(generator())
    first = networks.parameters(state, generator(), CPU)
    later = networks.advance(sampler(), state, generator(1))
    assert not same(networks.parameters(later, generator(), CPU), first)
    assert same(networks.parameters(state, generator(), CPU), first), "the state before is as it was"
    last = later | {MATCHINGS: torch.tensor(2)}
    anew = networks.advance(sampler(), last, generator(5))
    assert same(networks.parameters(anew, generator(), CPU), NETWORK.initialise(generator(5)))
    assert int(anew[NETWORKS]) == 1


def test_networks_learn_recalled_items_by_gradient_descent_without_momentum() -> None:
    made, networks = sampler(rows=2), on_recalled(epochs=4)
    state = networks.begin(generator())
    found = networks.parameters(networks.advance(made, state, generator(1)), generator(), CPU)
    leaves = {name: value.clone().requires_grad_() for name, value in NETWORK.initialise(generator()).items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=0.1)
    items, labels = made.memory.items(torch.eye(3)).flatten(0, 1), torch.arange(3).repeat_interleave(2)
    for _ in range(4):
        optimiser.zero_grad()
        cross_entropy(NETWORK.logits(leaves, items), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert_close(found, {name: value.detach() for name, value in leaves.items()}, terms=4 * TERMS)


def test_an_epoch_uses_every_recalled_item_once() -> None:
    seen: list[Tensor] = []

    class Watching(DifferentiatedStep):  # type: ignore[misc]
        def forward(self, state, images, targets):  # type: ignore[no-untyped-def]
            seen.append(images)
            return super().forward(state, images, targets)

    made = sampler(rows=3)
    networks = NetworksTrainedOnRecalled(Watching(NETWORK, compiled=False), 3, 2, rate=0.1, batch=4)
    networks.advance(made, networks.begin(generator()), generator(1))
    assert [len(batch) for batch in seen] == [4, 4, 1, 4, 4, 1]
    items = made.memory.items(torch.eye(3)).flatten(0, 1)
    for epoch in (torch.cat(seen[:3]), torch.cat(seen[3:])):
        assert sorted(epoch.flatten(1).sum(1).tolist()) == sorted(items.flatten(1).sum(1).tolist())


def test_networks_learn_real_items_by_sgd_with_momentum_and_weight_decay_across_comparisons() -> None:
    made, networks = sampler(each=1), on_real(items=6, batch=3)
    state = networks.begin(generator())
    leaves = {name: value.clone().requires_grad_() for name, value in NETWORK.initialise(generator()).items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=0.1, momentum=0.9, weight_decay=0.05)
    for seed in (1, 2):
        drawn = generator(seed)
        for _ in range(2):
            index = torch.randint(3, (3,), generator=drawn)
            torch.rand(2, generator=drawn)  # whether to mix, and how much
            optimiser.zero_grad()
            loss = cross_entropy(NETWORK.logits(leaves, made.real.items[index]), made.real.labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        state = networks.advance(made, state, generator(seed))
    found = networks.parameters(state, generator(), CPU)
    assert_close(found, {name: value.detach() for name, value in leaves.items()}, terms=4 * TERMS)


def test_mixed_images_have_the_targets_of_their_areas() -> None:
    pictures, targets = images(4).float(), torch.eye(4)
    assert cut_mix(pictures, targets, 0.0, generator())[0] is pictures
    taken = set()
    for seed in range(30):
        mixed, shares = cut_mix(pictures, targets, 1.0, generator(seed))
        own = (mixed == pictures).all(dim=1).flatten(1).float().mean(dim=1)
        assert_close(shares.sum(dim=1), torch.ones(4), terms=4)
        partner = shares.diagonal() < 1  # those that kept a picture of their own, and not themselves
        assert_close(shares.diagonal()[partner], own[partner], terms=80)
        taken |= {round(1 - float(value), 3) for value in own[partner]}
    assert len(taken) > 10


def test_the_authors_train_no_network_at_one_item_of_each_class() -> None:
    assert [authors_loops(rows) for rows in (1, 10, 20, 50)] == [(1, 1), (10, 50), (20, 25), (50, 10)]
    networks = on_recalled(loops=0)
    assert networks.matchings(sampler(rows=1)) == 1
    assert networks.matchings(sampler(rows=10)) == 10
