"""Outer batches: some classes take part, query and real pictures differ, and gradients reach every learned tensor."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch

from recall_server.core.memory import AbstractMemory, AddressedBases, Recalled, StoredItems, initial_targets
from recall_server.core.networks import ConvNet
from trainer.methods.named import compose
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.components import Components
from trainer.objectives.inner.inner_training import StepSizes
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.queries import AbstractQueries, LabelQueries, PictureQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import OuterBatch, Sampler
from trainer.objectives.unrolled.unrolled import LOG_RATE, Unrolled, learned_rate
from trainer.starts.random import noise_start

NETWORK = ConvNet(channels=1, height=8, width=8, classes=4, filters=4, depth=2)


class Nothing(AbstractObjective):
    """An objective that is not asked."""

    requires = frozenset({"bases"})

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError


def numbered_data(classes: int = 4, each: int = 6) -> RealData:
    """Every picture is filled with its own number, so that a batch tells which pictures it drew."""
    count = classes * each
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, 1, 8, 8).clone()
    return RealData.of(images, torch.arange(count) // each, classes)


def memory(query_size: int) -> AddressedBases:
    return noise_start((1, 8, 8), bases=3, rows=2, query_size=query_size, generator=torch.Generator().manual_seed(0))


def components(
    made: AbstractMemory | None = None,
    queries: AbstractQueries | None = None,
    objective: AbstractObjective | None = None,
) -> Components:
    return Components.of(made or memory(4), queries or LabelQueries(), objective or Nothing())


def picture_queries(*, shots: int = 2, begins_networks: bool = False) -> PictureQueries:
    encoder = replace(NETWORK, classes=5)
    parameters = encoder.initialise(torch.Generator().manual_seed(0))
    return PictureQueries.of(encoder, parameters, shots=shots, begins_networks=begins_networks)


def batch(made: Components, classes: int, each: int = 2) -> OuterBatch:
    generator = torch.Generator().manual_seed(0)
    sampler = made.sampler(numbered_data())
    return sampler.batch(sampler.draw_classes(classes, generator), each, generator)


def test_a_step_with_some_classes_recalls_and_draws_only_these() -> None:
    drawn = batch(components(), 2, each=3)
    assert drawn.recalled.items.shape == (2, 2, 1, 8, 8)
    assert torch.equal(drawn.recalled.targets[:, 0], torch.eye(2))
    assert torch.equal(drawn.targets, torch.eye(2).repeat_interleave(3, dim=0))
    assert len({int(number) // 6 for number in drawn.items[:, 0, 0, 0]}) == 2


def test_queries_and_real_pictures_of_a_step_are_disjoint() -> None:
    real, queries = numbered_data(), picture_queries()
    for seed in range(20):
        with mock.patch.object(PictureQueries, "vectors", side_effect=lambda pictures: pictures) as encode:
            others = queries.draw(real, [0, 2], 3, torch.Generator().manual_seed(seed)).others
        (pictures,) = encode.call_args.args
        assert not set(pictures[..., 0, 0, 0].flatten().int().tolist()) & set(others.flatten().tolist())


def test_the_query_of_a_class_is_the_mean_of_its_pictures_features() -> None:
    queries = picture_queries()
    pictures = torch.randn(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    single = [queries.vectors(pictures[:, [shot]]) for shot in range(2)]
    torch.testing.assert_close(queries.vectors(pictures), (single[0] + single[1]) / 2)


def test_the_outer_loss_reaches_bases_matrices_and_encoder() -> None:
    made = components(memory(5), picture_queries())
    batch(made, 3).recalled.items.square().sum().backward()
    assert not any("convolution.bias" in name for name in made.tensors()), "a norm takes these away: no gradient"
    for name, leaf in made.tensors().items():
        assert leaf.grad is not None and leaf.grad.abs().max() > 0, name


def test_pretrained_networks_start_from_the_current_encoder() -> None:
    assert batch(components(memory(5), picture_queries()), 3).pretrained is None
    queries = picture_queries(begins_networks=True)
    with torch.no_grad():
        queries.leaves["block0.convolution.weight"] += 1
    learned = batch(components(memory(5), queries), 3).pretrained
    assert learned is not None
    assert torch.equal(learned["block0.convolution.weight"], queries.leaves["block0.convolution.weight"])
    assert learned["block0.convolution.weight"].requires_grad, "the outer loss teaches it in this way too"
    assert not any(name.startswith("classifier") for name in learned)


def test_queries_and_real_pictures_of_a_small_class_are_disjoint() -> None:
    shown, others = numbered_data(each=5).draw_disjoint(2, 4, 20, torch.Generator().manual_seed(0))
    assert (len(shown), len(others)) == (4, 20)
    assert set(shown.tolist()) | set(others.tolist()) <= {10, 11, 12, 13, 14}
    assert not set(shown.tolist()) & set(others.tolist())


def test_a_class_with_too_few_pictures_is_drawn_with_repetition() -> None:
    index = numbered_data(each=3).draw(1, 10, torch.Generator().manual_seed(0))
    assert set(index.tolist()) == {3, 4, 5}


def test_a_sampler_rounds_as_the_file_and_passes_gradients_through() -> None:
    made, queries = components(), torch.eye(4)
    exact = made.sampler(numbered_data()).memory.items(queries)
    recalled = made.sampler(numbered_data(), "int8").memory.items(queries)
    assert not torch.equal(exact, recalled)
    assert torch.equal(recalled, made.as_stored("int8").memory.items(queries))
    recalled.square().sum().backward()
    assert not made.as_stored("int8").memory.items(queries).requires_grad
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in made.memory.tensors().values()), "as before"


def test_soft_targets_of_a_step_are_those_of_its_classes_and_get_a_gradient() -> None:
    made = components(memory(4).with_targets(initial_targets("soft", 4, 1)))
    targets = batch(made, 2).recalled.targets[:, 0]
    torch.testing.assert_close(targets.diagonal(), torch.full((2,), 0.9 / (0.9 + 0.1 / 3)))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(2))
    targets[0, 1].backward()
    assert made.tensors()["targets"].grad is not None


def test_frozen_tensors_are_not_optimised() -> None:
    made = components(memory(4).with_frozen({"bases"}))
    assert set(made.tensors()) == {"addressing"}
    assert not made.memory.tensors()["bases"].requires_grad


def test_an_objective_refuses_unsuitable_memories_by_name() -> None:
    with pytest.raises(ValueError, match="needs a memory that is bases; stored_items is not"):
        components(StoredItems(torch.zeros(4, 2, 1, 8, 8)))


def unrolled(rate: float | None) -> Unrolled:
    log_rate = None if rate is None else learned_rate(rate, torch.device("cpu"))
    step = DifferentiatedStep(NETWORK, compiled=False)
    return Unrolled(step, steps=2, window=2, rate=0.1, rows_per_class=2, real_batch=8, log_rate=log_rate)


def test_a_learned_step_size_has_its_start_and_gets_a_gradient() -> None:
    made = components(objective=unrolled(0.1))
    losses = [
        Components.of(memory(4), LabelQueries(), unrolled(rate)).objective.loss(
            made.sampler(numbered_data()), {}, torch.Generator().manual_seed(0)
        )
        for rate in (None, 0.1)
    ]
    torch.testing.assert_close(losses[0], losses[1])
    made.objective.loss(made.sampler(numbered_data()), {}, torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
    assert made.tensors()[LOG_RATE].grad is not None


def test_a_learned_step_size_is_stored_in_the_bundles_schedule() -> None:
    retraining, objective = compose("window").retraining, unrolled(0.1)
    assert objective.retraining(retraining, {}) == retraining
    learned = objective.retraining(retraining, {LOG_RATE: torch.tensor(-2.0)})
    assert learned.learning_rate == pytest.approx(0.1353, abs=1e-4)
    assert objective.retraining(retraining, {LOG_RATE: torch.tensor(9.0)}).learning_rate == 10, "what a manifest takes"


def test_step_sizes_of_their_own_are_what_the_bundle_asks_for_in_their_order() -> None:
    log_rate = learned_rate(0.1, torch.device("cpu"), 3)
    step = DifferentiatedStep(NETWORK, compiled=False)
    objective = Unrolled(
        step, steps=3, window=3, rate=0.1, rows_per_class=1, real_batch=8, training=StepSizes(0.0), log_rate=log_rate,
        order="sequence",
    )  # fmt: skip
    made = components(objective=objective)
    objective.loss(made.sampler(numbered_data()), {}, torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
    assert log_rate.grad is not None and bool(log_rate.grad.all()), "every step has an effect"
    schedule = objective.retraining(compose("dd").retraining, {LOG_RATE: torch.tensor([0.1, 0.3, 99.0]).log()})
    assert schedule.rates == (0.1, 0.3, 10.0) and schedule.order == "sequence"
    assert schedule.learning_rate == pytest.approx(10.4 / 3)


def test_rows_in_sequence_are_those_of_classifiers() -> None:
    step = DifferentiatedStep(NETWORK, compiled=False)
    objective = Unrolled(step, steps=3, window=3, rate=0.1, rows_per_class=2, order="sequence")
    recalled = Recalled(torch.zeros(2, 3, 1, 8, 8), torch.eye(2).unsqueeze(1))
    rows = objective._draw_rows(3, recalled, torch.Generator())
    assert rows.tolist() == [[[0, 1]] * 2, [[2, 0]] * 2, [[1, 2]] * 2]


@pytest.mark.parametrize(("initialisation", "bounds"), [("xavier", (6 / 53, 6 / 13)), ("kaiming", (6 / 48, 6 / 5))])
def test_noise_has_the_width_of_its_initialisation(initialisation: str, bounds: tuple[float, float]) -> None:
    start = noise_start(
        (3, 8, 8),
        bases=5,
        rows=2,
        query_size=4,
        generator=torch.Generator().manual_seed(0),
        initialisation=initialisation,  # type: ignore[arg-type]
    )
    for tensor, square in zip((start.bases, start.addressing), bounds, strict=True):
        assert 0.8 * square**0.5 < tensor.abs().max() <= square**0.5
