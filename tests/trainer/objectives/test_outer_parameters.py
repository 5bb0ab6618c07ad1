"""Episodes: some classes take part, query and outer pictures differ, and gradients reach every tensor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recall_server.core.memory import AddressedBases, Storage, initial_targets
from recall_server.core.networks import ConvNet
from tests.tolerances import assert_close
from trainer.methods.method import compose
from trainer.objectives.outer_parameters import (
    LEARNED_RATE,
    ImageLearner,
    LabelLearner,
    RealData,
    with_learned_rate,
)
from trainer.starts.random import noise_start


def numbered_data(classes: int = 4, each: int = 6) -> RealData:
    """Every picture is filled with its own number, so that an episode tells which pictures it drew."""
    count = classes * each
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(count, 1, 8, 8).clone()
    return RealData.of(images, torch.arange(count) // each, classes)


def memory(query_size: int) -> AddressedBases:
    return noise_start((1, 8, 8), bases=3, rows=2, query_size=query_size, generator=torch.Generator().manual_seed(0))


def image_learner(shots: int = 2, real_batch: int = 6) -> ImageLearner:
    encoder = ConvNet(channels=1, height=8, width=8, classes=5, filters=4, depth=2)
    parameters = encoder.initialise(torch.Generator().manual_seed(0))
    return ImageLearner(memory(5), encoder, parameters, classes_per_step=3, shots=shots, real_batch=real_batch)


def test_a_step_with_some_classes_recalls_and_scores_those_classes_alone() -> None:
    learner = LabelLearner(memory(4), classes_per_step=2, real_batch=6)
    episode = learner.episode(numbered_data(), torch.Generator().manual_seed(3))
    assert episode.recalled.items.shape == (2, 2, 1, 8, 8)
    assert torch.equal(episode.recalled.targets[:, 0], torch.eye(2))
    drawn = (episode.images[:, 0, 0, 0] // 6).int().tolist()
    assert len(set(drawn)) == 2
    assert drawn == sorted(drawn)
    assert torch.equal(episode.image_targets.argmax(dim=1), torch.tensor([0, 0, 0, 1, 1, 1]))


def test_query_pictures_and_outer_pictures_never_overlap() -> None:
    learner = image_learner()
    seen: list[torch.Tensor] = []
    queries = learner.queries
    learner.queries = lambda pictures: (seen.append(pictures), queries(pictures))[1]  # type: ignore[method-assign]
    episode = learner.episode(numbered_data(), torch.Generator().manual_seed(0))
    shown = set(seen[0][..., 0, 0, 0].flatten().tolist())
    scored = set(episode.images[:, 0, 0, 0].tolist())
    assert len(shown) == len(scored) == 6
    assert not shown & scored


def test_the_query_of_a_class_is_the_mean_of_its_pictures_features() -> None:
    learner = image_learner()
    pictures = torch.randn(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    single = [learner.queries(pictures[:, [shot]]) for shot in range(2)]
    assert_close(learner.queries(pictures), (single[0] + single[1]) / 2, terms=64)


def test_the_outer_loss_reaches_bases_matrices_and_encoder() -> None:
    learner = image_learner()
    episode = learner.episode(numbered_data(), torch.Generator().manual_seed(0))
    episode.recalled.items.square().sum().backward()
    assert not any("convolution.bias" in name for name in learner.tensors()), "a norm takes these away: no gradient"
    for name, leaf in learner.tensors().items():
        assert leaf.grad is not None and leaf.grad.abs().max() > 0, name


def test_networks_begin_with_what_the_encoder_has_learned_so_far_where_they_are_to() -> None:
    assert image_learner().episode(numbered_data(), torch.Generator().manual_seed(0)).pretrained is None
    learner = image_learner()
    learner.begins_networks = True
    with torch.no_grad():
        learner.leaves["block0.convolution.weight"] += 1
    learned = learner.episode(numbered_data(), torch.Generator().manual_seed(0)).pretrained
    assert learned is not None
    assert torch.equal(learned["block0.convolution.weight"], learner.leaves["block0.convolution.weight"])
    assert learned["block0.convolution.weight"].requires_grad, "the outer loss teaches it in this way too"
    assert not any(name.startswith("classifier") for name in learned)


def test_an_encoder_of_another_size_than_the_memory_is_refused() -> None:
    encoder = ConvNet(channels=1, height=8, width=8, classes=7, filters=4, depth=2)
    with pytest.raises(ValueError, match="the encoder gives 7 features, the memory asks for 5"):
        ImageLearner(memory(5), encoder, {}, classes_per_step=2, shots=1, real_batch=4)


def test_a_class_with_few_pictures_still_keeps_query_and_outer_pictures_apart() -> None:
    shown, others = numbered_data(each=5).draw_apart(2, 4, 20, torch.Generator().manual_seed(0))
    assert (len(shown), len(others)) == (4, 20)
    assert set(shown.tolist()) | set(others.tolist()) <= {10, 11, 12, 13, 14}
    assert not set(shown.tolist()) & set(others.tolist())


def test_a_class_with_too_few_pictures_is_drawn_with_repetition() -> None:
    index = numbered_data(each=3).draw(1, 10, torch.Generator().manual_seed(0))
    assert set(index.tolist()) == {3, 4, 5}


def rounding(storage: Storage) -> tuple[LabelLearner, torch.Tensor]:
    """A learner whose episodes recall through `storage`, and what its first episode recalls."""
    learner = LabelLearner(memory(4), classes_per_step=4, real_batch=4)
    learner.storage = storage
    return learner, learner.episode(numbered_data(), torch.Generator().manual_seed(0)).recalled.items


def test_episodes_recall_what_the_file_would_and_gradients_reach_the_exact_numbers() -> None:
    exact, recalled = rounding("float32")[1], rounding("int8")[1]
    learner = rounding("int8")[0]
    assert not torch.equal(exact, recalled)
    assert torch.equal(recalled, learner.as_stored("int8").memory.items(torch.eye(4)))
    recalled.square().sum().backward()
    assert not learner.as_stored("int8").memory.items(torch.eye(4)).requires_grad
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in learner.memory.tensors().values()), "as before"


def test_a_learned_step_size_starts_where_it_is_told_and_gets_a_gradient() -> None:
    learner = LabelLearner(memory(4), classes_per_step=2, real_batch=4, rate=0.02)
    rate = learner.episode(numbered_data(), torch.Generator().manual_seed(0)).rate
    assert rate is not None and rate.item() == pytest.approx(0.02)
    rate.backward()
    assert learner.tensors()[LEARNED_RATE].grad is not None


def test_a_learned_step_size_is_what_the_bundle_asks_for() -> None:
    retraining = compose("window").retraining
    assert with_learned_rate(retraining, {}) == retraining
    learned = with_learned_rate(retraining, {LEARNED_RATE: torch.tensor(0.125).log()})
    assert learned.learning_rate == pytest.approx(0.125)
    assert with_learned_rate(retraining, {LEARNED_RATE: torch.tensor(9.0)}).learning_rate == 10, "what a manifest takes"


def test_soft_targets_of_a_step_are_those_of_its_classes_and_get_a_gradient() -> None:
    soft = replace(memory(4), targets=initial_targets("soft", 4, 1))
    learner = LabelLearner(soft, classes_per_step=2, real_batch=4)
    targets = learner.episode(numbered_data(), torch.Generator().manual_seed(0)).recalled.targets[:, 0]
    assert_close(targets.diagonal(), torch.full((2,), 0.9 / (0.9 + 0.1 / 3)), terms=4)
    assert_close(targets.sum(dim=1), torch.ones(2), terms=4)
    targets[0, 1].backward()
    assert learner.tensors()["targets"].grad is not None


@pytest.mark.parametrize(("initialisation", "bounds"), [("xavier", (6 / 53, 6 / 13)), ("kaiming", (6 / 48, 6 / 5))])
def test_noise_is_as_wide_as_its_initialisation_says(initialisation: str, bounds: tuple[float, float]) -> None:
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
