"""The baselines have exactly the same memory, learn, forget, and resume to the same bits."""

from __future__ import annotations

import pytest

from recall_server.errors import InvalidDataset
from tests.trainer.streams.stream_examples import (
    CLASSES,
    PLAIN,
    SHAPE,
    BarStream,
    bars,
    header,
    learn,
    learn_with_stops,
    method_of,
    same_bits,
)
from trainer.streams.learners.coreset import Coreset
from trainer.streams.learners.joint import joint_accuracies
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance, accuracy
from trainer.streams.learners.shared_network import OnlineNetwork, Updates

IMAGES = 12  # of the buffer


def network(images: int = IMAGES, classes: tuple[str, ...] = CLASSES) -> OnlineNetwork:
    made = method_of()
    return OnlineNetwork(
        "replay",
        made.objective.network,
        classes,
        SHAPE,
        PLAIN,
        Updates(rate=0.05, steps=4, replayed=10),
        Allowance(images * 64, 2, 0),
    )


def coreset(images: int = IMAGES, tasks: int = 2) -> Coreset:
    return Coreset(method_of().retraining, PLAIN, Allowance(images * 64, tasks, 0))


def final_accuracies(learner: AbstractStreamLearner, stream: BarStream, capacity: int = IMAGES * 64) -> list[float]:
    """Accuracies of every task at the end. The learner never stores more than the capacity."""
    for task in stream.every():
        learner.begin(task.header)
        for batch in task.train.chunks(10):
            learner.observe(batch)
            assert learner.numbers() <= capacity
        learner.finish()
    return [accuracy(learner.predictor(number), task.test, 50) for number, task in enumerate(stream.every())]


def test_replay_fills_its_buffer_and_forgets_less_than_online_learning() -> None:
    """The same names stand for other bars in each task, so one network cannot be right about both."""
    online, replay = network(images=0), network()
    forgotten, kept = final_accuracies(online, BarStream(), capacity=0), final_accuracies(replay, BarStream())
    assert forgotten[1] > 0.9
    assert forgotten[0] < 0.6
    assert kept[0] > forgotten[0]
    assert (online.numbers(), replay.numbers()) == (0, IMAGES * 64)


def test_the_coreset_keeps_as_many_real_images_as_the_share_of_a_task_holds() -> None:
    kept = coreset()
    accuracies = final_accuracies(kept, BarStream())
    assert kept.numbers() == IMAGES * 64
    assert min(accuracies) > 0.5
    with pytest.raises(ValueError, match="a share of 128 numbers is too small for an image per class of bars-0"):
        coreset(images=4).begin(header())
    empty = coreset()
    empty.begin(header())
    with pytest.raises(InvalidDataset, match="bars-0 ended without a sample of top"):
        empty.finish()


def test_joint_training_solves_tasks_of_distinct_classes() -> None:
    class Told(BarStream):
        """Every task with names of its own, so that no two of them contradict each other."""

        def task(self, number: int):  # type: ignore[no-untyped-def]
            found = super().task(number)
            if found is None:
                return None
            names = tuple(f"{name} {number}" for name in CLASSES)
            return type(found)(header(f"bars-{number}", names), found.train, found.test)

    stream = Told()
    accuracies = joint_accuracies(stream, network(0, stream.classes()), epochs=30, seed=0)
    assert len(accuracies) == 2
    assert min(accuracies) > 0.9


def test_predictions_are_restricted_to_the_classes_of_the_task() -> None:
    names = ("a", "b", "c")
    made = network(classes=(*CLASSES, *names))
    made.begin(header())
    made.begin(header("other", names))
    before = {name: value.clone() for name, value in made.state().tensors.items() if name.startswith("network.")}
    batch = bars(30, 0)
    made.learn(PLAIN.to_model(batch.pixels()), made.encode(1, batch.labels))
    after = made.state().tensors
    moved = (after["network.classifier.weight"] - before["network.classifier.weight"]).abs().sum(dim=1)
    assert (moved[:3] == 0).all()
    assert (moved[3:] > 0).all()
    with pytest.raises(ValueError, match="the network has no output for the class d of new"):
        made.begin(header("new", ("a", "d")))


@pytest.mark.parametrize("make", [network, coreset])
def test_a_stopped_and_resumed_baseline_ends_in_the_same_bits(make: type[AbstractStreamLearner]) -> None:
    whole, stream = make(), BarStream(2, 30)
    learn(whole, *stream.every())
    assert same_bits(whole.state(), learn_with_stops(make, *stream.every()).state())
