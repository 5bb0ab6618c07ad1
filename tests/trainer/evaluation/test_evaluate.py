"""Evaluation: the paper's protocol, baselines of equal size, and episodes whose shots are never test pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MOST_CONFUSED
from recall_server.core.memory import AddressedBases
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from tests.tolerances import assert_close
from trainer.data.datasets import ImageDataset, Split, load_dataset
from trainer.evaluation.evaluate import Accuracies, Runs, confusions, fresh_accuracy, paper_protocol
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode, evaluate_few_shot, largest_task
from trainer.evaluation.protocol import Protocol
from trainer.evaluation.report import evaluate_bundle, recorded, write_card
from trainer.methods.named import compose
from trainer.run.parallel.tasks import Here
from trainer.run.progress import RunLimits
from trainer.run.search.instant import instant
from trainer.run.setup.request import DistillRequest
from trainer.starts.random import noise_start

RETRAINING = Retraining(
    network=NetworkSpec(filters=8, depth=2), steps=60, learning_rate=0.02, rows_per_class=8, decay="cosine"
)


@pytest.mark.parametrize(
    ("queries", "rows", "each", "steps"),
    [(10, 29, 29, 300), (10, 115, 64, 600), (100, 40, 6, 2100), (10, 1, 1, 300)],
    ids=["one batch an epoch", "1,150 images are two batches of 640", "100 classes", "one image a class"],
)
def test_the_papers_protocol_is_300_epochs_of_batches_of_640(queries: int, rows: int, each: int, steps: int) -> None:
    protocol = paper_protocol(RETRAINING, queries=queries, rows=rows)
    assert (protocol.rows_per_class, protocol.steps) == (each, steps)
    assert (protocol.learning_rate, protocol.momentum, protocol.decay) == (0.01, 0.9, "constant")
    assert protocol.network == RETRAINING.network


def test_regression_on_targets_has_a_smaller_rate_by_which_it_converges() -> None:
    regression = RETRAINING.model_copy(update={"loss": "squared_error"})
    assert paper_protocol(regression, queries=10, rows=1).learning_rate == 0.003
    assert Protocol("common").schedule(regression, queries=10, rows=1).learning_rate == 0.003


def test_mean_and_spread_are_those_of_the_runs() -> None:
    accuracies = Accuracies((0.5, 0.7))
    assert accuracies.mean == pytest.approx(0.6)
    assert accuracies.spread == pytest.approx(0.02**0.5)
    assert Accuracies((0.5,)).spread == 0


def test_differences_are_paired_by_task() -> None:
    one, other = Accuracies((0.5, 0.9)), Accuracies((0.4, 0.8))
    assert one.over(other).mean == pytest.approx(0.1)
    assert_close(one.over(other).interval, 0.0, size=1)  # however much tasks differ
    with pytest.raises(ValueError, match="shorter"):
        one.over(Accuracies((0.5,)))


def test_fresh_networks_learn_from_real_pictures_reproducibly(bars_dataset: ImageDataset) -> None:
    preprocessing = Standardise.fit(bars_dataset.train.pixels())
    train = bars_dataset.train
    members = torch.stack([torch.nonzero(train.labels == label).flatten()[:8] for label in range(3)])
    images = preprocessing.to_model(train.select(members.flatten()).pixels()).reshape(3, 8, 1, 8, 8)
    what, runs = (images, torch.eye(3), bars_dataset.test), Runs(RETRAINING, [0, 1], torch.device("cpu"))
    first = fresh_accuracy(*what, runs, labels=bars_dataset.classes, preprocessing=preprocessing)
    assert first.mean > 0.95
    assert first.confusions is not None
    assert [sum(row) for row in first.confusions] == [40, 40, 40], "20 test pictures of each class, seen by 2 networks"
    assert sum(row[label] for label, row in enumerate(first.confusions)) == round(first.mean * 120)
    assert fresh_accuracy(*what, runs, labels=bars_dataset.classes, preprocessing=preprocessing) == first


def test_confusions_count_every_answer_of_every_network() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    guesses = [torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 0])]
    assert confusions(guesses, labels, 4) == ((3, 1, 0, 0), (0, 2, 0, 0), (2, 0, 0, 0), (0, 0, 0, 0))


def test_confusions_of_too_many_labels_are_left_out() -> None:
    many = torch.arange(MOST_CONFUSED + 1)
    assert confusions([many], many, MOST_CONFUSED + 1) is None
    assert confusions([many[:-1]], many[:-1], MOST_CONFUSED) is not None


def test_a_measurement_replaces_only_an_earlier_one_of_its_kind() -> None:
    paper = Accuracies((0.5,)).row(network="n", protocol="paper", data="d")
    bundle = Accuracies((0.5,)).row(network="n", protocol="bundle", data="d")
    again = Accuracies((0.5, 0.75), confusions=((4, 0), (3, 1))).row(network="n", protocol="paper", data="d")
    assert recorded([paper, bundle], again) == [bundle, again]


def test_the_recorded_json_can_be_read_and_has_confusions(bars_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bars.safetensors"
    dataset = load_dataset(str(bars_folder))
    method = compose("principal")
    budget = method.budget(dataset, images_per_class=2, bases=4, rows=None)
    request = DistillRequest(
        dataset, method, budget, path, seed=0, device=torch.device("cpu"), limits=RunLimits(0), resume=False
    )
    instant(request, [budget], moments=None, report=lambda sentence: None)
    network = "convnet:filters=8,depth=2"
    arguments: Any = {"seeds": [0, 1], "network": network, "device": torch.device("cpu"), "compute": Here().map}
    for _ in range(2):
        evaluate_bundle(path, dataset, protocol=Protocol("bundle"), record=True, **arguments)
    (row,) = MemoryBundle.load(path).manifest.accuracy
    assert row.confusions is not None
    assert [sum(counts) for counts in row.confusions] == [40, 40, 40]
    card = write_card(path)
    assert card == tmp_path / "bars.md"
    assert f"**{100 * row.mean:.2f} %** on {dataset.name} test" in card.read_text()


def test_an_episode_never_tests_on_its_own_shots(bars_dataset: ImageDataset) -> None:
    episode = draw_episode(
        bars_dataset.test, bars_dataset.classes, ways=2, shots=5, tests=20, generator=torch.Generator().manual_seed(0)
    )
    shown = {image.numpy().tobytes() for image in (episode.shots.flatten(0, 1) * 255).round().byte()}
    tested = {image.numpy().tobytes() for image in episode.test.images}
    assert len(shown) == 10
    assert len(tested) == 20
    assert not shown & tested
    assert episode.test.labels.tolist() == [0] * 10 + [1] * 10


def test_an_episode_with_too_few_pictures_is_refused(bars_dataset: ImageDataset) -> None:
    with pytest.raises(ValueError, match="has 20 pictures, too few for 5 shots and 50 tests"):
        draw_episode(bars_dataset.test, bars_dataset.classes, ways=2, shots=5, tests=100, generator=torch.Generator())


def test_both_baselines_see_the_same_pictures_and_are_scored_on_the_same_test(bars_dataset: ImageDataset) -> None:
    """With pixels as features the classes are far apart, so the nearest mean is right everywhere."""
    memory: AddressedBases = noise_start(
        (1, 8, 8), bases=2, rows=2, query_size=64, generator=torch.Generator().manual_seed(0)
    )
    few_shot = FewShot(
        memory,
        Standardise.fit(bars_dataset.train.pixels()),
        RETRAINING,
        encode=lambda pixels: pixels.flatten(1),
        device=torch.device("cpu"),
    )
    generator = torch.Generator().manual_seed(0)
    episode = draw_episode(bars_dataset.test, bars_dataset.classes, ways=2, shots=5, tests=20, generator=generator)
    assert few_shot.nearest_mean(episode) == 1
    assert few_shot.shots_alone(episode, 0) > 0.9
    swapped = Split(episode.test.images, 1 - episode.test.labels)
    wrong = type(episode)(episode.labels, episode.shots, swapped)
    assert few_shot.nearest_mean(wrong) == 0


def test_classify_then_recall_trains_on_what_the_known_classes_recall(bars_dataset: ImageDataset) -> None:
    """A memory that recalls each query as the picture that it is, so that known classes are recalled as their means."""
    standard = Standardise.fit(bars_dataset.train.pixels())
    few_shot = FewShot(
        AddressedBases(torch.eye(64).view(64, 1, 8, 8), torch.eye(64)[None], height=8, width=8),
        standard,
        RETRAINING,
        encode=lambda pixels: standard.to_model(pixels).flatten(1),
        device=torch.device("cpu"),
    )
    generator = torch.Generator().manual_seed(0)
    episode = draw_episode(bars_dataset.test, bars_dataset.classes, ways=2, shots=5, tests=20, generator=generator)
    known = few_shot.known_classes(bars_dataset.train, len(bars_dataset.classes))
    assert known.shape == (len(bars_dataset.classes), 64)
    assert few_shot.classified(episode, known, 0) > 0.9
    blind = known[:1].expand_as(known)
    assert few_shot.classified(episode, blind, 0) < 0.9, "both are taken for the same class, and look the same"
    assert set(evaluate_few_shot(few_shot, [episode], known)) == {
        "recalled",
        "recalled with shots",
        "nearest class mean",
        "classified, then recalled",
        "classified, then recalled with shots",
        "shots alone",
    }
    both = few_shot.beside_pictures(few_shot.by_pictures)(episode)
    assert torch.equal(both, torch.cat([few_shot.by_pictures(episode), few_shot.pictures_alone(episode)], dim=1))
    with pytest.raises(ValueError, match="class 3 has no pictures"):
        few_shot.known_classes(bars_dataset.train, 4)


@pytest.mark.parametrize(("asked", "given"), [((5, 200), (5, 30)), ((40, 20), (10, 20)), ((2, 6), (2, 6))])
def test_a_task_is_reduced_to_the_available_pictures(
    bars_dataset: ImageDataset, asked: tuple[int, int], given: tuple[int, int]
) -> None:
    shots, tests = asked
    assert largest_task(bars_dataset.test, bars_dataset.classes, ways=2, shots=shots, tests=tests) == given


def test_a_class_with_one_picture_is_refused_by_name() -> None:
    split = Split(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="two or more pictures of each class, but dog has 1"):
        largest_task(split, ("cat", "dog"), ways=2, shots=1, tests=2)
