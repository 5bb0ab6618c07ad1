"""The streams of the literature: seeded, lazy, and with disjoint training and test pictures."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2.functional import rotate

from recall_server.errors import InvalidDataset
from trainer.data.datasets import load_dataset
from trainer.data.splits import ImageDataset
from trainer.streams.sources.named import STREAMS, NamedStream, StreamSpec, named_stream
from trainer.streams.sources.task import StreamTask


@pytest.fixture(scope="module")
def digits() -> ImageDataset:
    return load_dataset("digits")


def stream(digits: ImageDataset, kind: str, *, seed: int = 0, validate: bool = False, tasks: int = 5) -> NamedStream:
    return NamedStream(kind, StreamSpec("digits", kind, tasks, 60, 50), digits, seed=seed, validate=validate)  # type: ignore[arg-type]


def task(stream: NamedStream, number: int) -> StreamTask:
    found = stream.task(number)
    assert found is not None
    return found


def images(task: StreamTask) -> torch.Tensor:
    return task.train.select(torch.arange(len(task.train))).images


@pytest.mark.parametrize("kind", ["rotations", "permutations", "splits"])
def test_a_seed_always_gives_the_same_task(digits: ImageDataset, kind: str) -> None:
    first, again, other = (task(stream(digits, kind, seed=seed), 2) for seed in (0, 0, 1))
    assert torch.equal(images(first), images(again))
    assert torch.equal(first.train.labels, again.train.labels)
    assert not torch.equal(images(first), images(other))


def test_angles_grow_from_0_to_180_degrees_and_turn_test_pictures_alike(digits: ImageDataset) -> None:
    rotations = stream(digits, "rotations", tasks=4)
    for number in range(4):
        found = task(rotations, number)
        matching = [
            angle
            for angle in range(0, 181)
            if torch.equal(rotate(digits.test.images[:20], float(angle)), found.test.select(torch.arange(20)).images)
        ]
        assert matching
        assert all(45 * number - 3 <= angle <= 45 * (number + 1) + 3 for angle in matching)


def test_a_permutation_is_the_same_for_every_picture_of_a_task_and_loses_none(digits: ImageDataset) -> None:
    found = task(stream(digits, "permutations"), 1)
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    order = found.train.change(ramp).flatten().long()
    assert sorted(order.tolist()) == list(range(64))
    assert not torch.equal(order, torch.arange(64))
    shown = found.test.select(torch.arange(5)).images
    assert torch.equal(shown.flatten(1), digits.test.images[:5].flatten(1)[:, order])


def test_split_classes_are_disjoint_and_labels_count_from_zero(digits: ImageDataset) -> None:
    tasks = [task(stream(digits, "splits"), number) for number in range(5)]
    assert [name for found in tasks for name in found.header.classes] == list(digits.classes)
    for number, found in enumerate(tasks):
        assert set(found.train.labels.tolist()) == {0, 1}
        source = digits.test.labels[found.test.index]
        assert torch.equal(source - 2 * number, found.test.labels)


@pytest.mark.parametrize("validate", [False, True])
def test_no_task_trains_on_test_pictures_of_any_task(digits: ImageDataset, validate: bool) -> None:
    permutations = stream(digits, "splits", validate=validate)
    learned = {image.numpy().tobytes() for number in range(5) for image in images(task(permutations, number))}
    judged = [task(permutations, number).test for number in range(5)]
    shown = {image.numpy().tobytes() for test in judged for image in test.select(torch.arange(len(test))).images}
    expected = digits.validation if validate else digits.test
    assert shown == {image.numpy().tobytes() for image in expected.images}
    held = {image.numpy().tobytes() for image in digits.test.images}
    assert not learned & shown
    assert not learned & held


def test_the_data_set_is_in_memory_once_for_all_tasks(digits: ImageDataset) -> None:
    permutations = NamedStream("many", StreamSpec("digits", "permutations", 100, 60, 50), digits, seed=0)
    assert {task(permutations, number).train.source.data_ptr() for number in range(100)} == {
        task(permutations, 0).train.source.data_ptr()
    }
    assert permutations.task(100) is None


def test_an_unknown_stream_lists_the_known_ones() -> None:
    with pytest.raises(InvalidDataset, match="unknown stream 'spirals'; known streams: rotations, permutations"):
        named_stream("spirals", seed=0)


def test_more_tasks_than_classes_can_be_split_into_are_refused(digits: ImageDataset) -> None:
    with pytest.raises(InvalidDataset, match="has 1 to 5 tasks, not 6"):
        NamedStream("splits", StreamSpec("digits", "splits", 5, 60, 50), digits, seed=0, tasks=6)


def test_the_memory_of_every_stream_is_that_of_the_paper() -> None:
    assert {name: (spec.tasks, spec.memory) for name, spec in STREAMS.items() if spec.dataset != "digits"} == {
        "rotations": (20, 200),
        "permutations": (20, 200),
        "many": (100, 1_000),
        "many-1000": (100, 1_000),
        "cifar100": (20, 200),
        "rotations-60000": (20, 200),
        "permutations-60000": (20, 200),
    }
