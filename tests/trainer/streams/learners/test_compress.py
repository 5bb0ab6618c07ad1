"""Compress-then-recall: never more numbers than the buffer has, and nothing is lost on bad input."""

from __future__ import annotations

import pytest
import torch

from recall_server.core.preprocessing import Standardise
from recall_server.errors import InvalidDataset
from tests.suite.needs import needs_cuda
from tests.trainer.streams.stream_examples import (
    CLASSES,
    CONVNET,
    PLAIN,
    BarStream,
    bars,
    header,
    learn,
    learn_with_stops,
    learner,
    method_of,
    same_bits,
)
from trainer.data.splits import Split
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.learners.learner import Allowance, accuracy

METHODS = {
    "paper": ("paper", ["objective.steps=5", "objective.window=5"]),
    "window": ("window", []),
    "window at full resolution": ("window", ["memory.resolution=full", "stream.bases=3", "stream.least_samples=5"]),
    "window of raw samples": ("window", ["stream.stored=raw"]),
    "window of a convnet": ("window", CONVNET),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_buffer_is_counted_to_the_last_number_at_every_moment_of_a_stream(method: str) -> None:
    name, overrides = METHODS[method]
    ours, stream = learner(*overrides, method=name, tasks=4), BarStream(4, 40)
    capacity = ours.buffer.capacity
    for number, task in enumerate(stream.every()):
        ours.begin(task.header)
        for batch in task.train.chunks(10):
            ours.observe(batch)
            kept = [value for memory in ours.buffer.memories for value in memory.tensors().values()]
            assert ours.numbers() == sum(map(torch.numel, kept)) + ours.buffer.samples.numbers()  # type: ignore[union-attr]
            assert ours.numbers() <= capacity
        assert ours.numbers() > (capacity - 64 if ours.method.stream.stored == "raw" and number == 3 else 0)
        ours.finish()
        memory = ours.memory(number)
        assert memory.bases.numel() + memory.addressing.numel() <= capacity // 4  # addressing matrices included
        assert ours.numbers() == sum(m.stored_numbers() for m in ours.buffer.memories)
    assert (memory.rows + 1) * len(CLASSES) * len(memory.bases) + memory.bases.numel() > capacity // 4  # nor wasted


@pytest.mark.parametrize("method", METHODS)
def test_every_task_is_solved_after_the_last_one(method: str) -> None:
    name, overrides = METHODS[method]
    more = (
        ["outer.steps=12", "objective.steps=20", "objective.window=20", "outer.rate=0.3"]
        if name == "paper"
        else ["outer.steps=2"]
    )
    ours, stream = learner(*overrides, *more, method=name, tasks=2), BarStream(2)
    learn(ours, *stream.every())
    for number, task in enumerate(stream.every()):
        assert accuracy(ours.predictor(number), task.test, 50) > 0.8  # a third by chance


@needs_cuda
@pytest.mark.parametrize("method", ["window", "window of a convnet"])
def test_networks_train_on_a_gpu_and_the_state_stays_on_the_cpu(method: str) -> None:
    name, overrides = METHODS[method]
    ours, stream = learner(*overrides, "outer.steps=2", method=name, device=torch.device("cuda")), BarStream(2)
    learn(ours, *stream.every())
    for number, task in enumerate(stream.every()):
        assert accuracy(ours.predictor(number), task.test, 50) > 0.8
    assert {value.device.type for value in ours.state().tensors.values()} == {"cpu"}


def test_a_stream_is_learned_in_one_pass_and_no_network_is_kept() -> None:
    ours = learner()
    learn(ours, *BarStream(1).every())
    assert ours.seen[0].outer_steps == 6  # one replay for each of six minibatches, also those before the start
    assert not any("network" in name or "classifier" in name for name in ours.state().tensors)


def test_the_same_seed_gives_the_same_memories_and_global_randomness_is_untouched() -> None:
    before = torch.random.get_rng_state()
    one, other = learner(), learner()
    learn(one, *BarStream().every())
    learn(other, *BarStream().every())
    assert same_bits(one.state(), other.state())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("method", ["paper", "window"])
def test_a_learner_stopped_between_minibatches_resumes_to_the_same_bits(method: str) -> None:
    name, overrides = METHODS[method]
    stream = BarStream(2, 40)
    whole = learner(*overrides, method=name)
    learn(whole, *stream.every())
    stopped = learn_with_stops(lambda: learner(*overrides, method=name), *stream.every())
    assert same_bits(whole.state(), stopped.state())
    assert whole.seen == stopped.seen


def test_tasks_that_share_classes_keep_a_memory_each() -> None:
    """The bars of both tasks have the same names and other places: what one says must not leak into the other."""
    ours, stream = learner("outer.steps=2"), BarStream(2)
    learn(ours, *stream.every())
    first, second = stream.every()
    own, foreign = accuracy(ours.predictor(0), first.test, 50), accuracy(ours.predictor(0), second.test, 50)
    assert own > 0.8 > foreign


def test_a_task_of_unknown_length_may_end_at_any_minibatch() -> None:
    ours = learner()
    ours.begin(header())
    ours.observe(bars(10, 0))
    ours.finish()
    assert ours.memory(0).stored_numbers() <= ours.buffer.share
    ours.predictor(0)(torch.zeros(1, 1, 8, 8))


def test_a_task_may_start_from_a_finished_memory_that_already_fits_it() -> None:
    reusing = learner("stream.reuse=true", "outer.steps=0", "start=noise")
    (task,) = BarStream(1).every()
    with_steps = learner("outer.steps=4")
    learn(with_steps, *BarStream(1).every())
    reusing.buffer.memories.append(with_steps.memory(0))
    reusing.begin(task.header)
    for batch in task.train.chunks(10):
        reusing.observe(batch)
    reusing.finish()
    assert torch.equal(reusing.memory(1).bases, with_steps.memory(0).bases)


def test_outer_steps_which_let_rates_decay_are_counted_on_after_a_resume() -> None:
    ours = learner("outer.settle=2", "stream.reuse=false")
    ours.begin(header())
    samples = bars(60, seed=0)
    steps = []
    for start in range(0, 60, 10):
        if start == 40:
            state, ours = ours.state(), learner("outer.settle=2", "stream.reuse=false")
            ours.restore(state)
        ours.observe(Split(samples.images[start : start + 10], samples.labels[start : start + 10]))
        construction = ours._construction
        assert construction is not None
        if construction.training is not None:
            steps.append(construction.training.steps)
    assert steps == [2, 3, 4, 5, 6]


def test_a_skipped_task_takes_its_share_of_the_buffer() -> None:
    one, other = learner("stream.reuse=false"), learner("stream.reuse=false")
    one.skip(header())
    assert one.numbers() == other.buffer.budget(header(), other.method).rows * 4 * 3 + 4 * 16
    one.skip(header("bars-1"))
    with pytest.raises(ValueError, match="all shares are taken"):
        one.skip(header("bars-2"))


@pytest.mark.parametrize(
    ("classes", "shape", "message"),
    [
        (("only",), (1, 8, 8), "the task next has 1 class; a classifier needs two or more"),
        (("a", "a"), (1, 8, 8), "the task next has two classes of the same name"),
        (
            CLASSES,
            (1, 9, 9),
            "next are 9x9 in grey, those of bars-0 8x8 in grey; all tasks need the same size",
        ),
        (CLASSES, (3, 8, 8), "this stream's preprocessing does not accept the images of next"),
        (
            tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn"),
            (1, 8, 8),
            "two classes of the same name",
        ),
    ],
)
def test_an_invalid_task_is_refused_and_the_state_is_kept(
    classes: tuple[str, ...], shape: tuple[int, int, int], message: str
) -> None:
    ours = learner()
    learn(ours, *BarStream(1).every())
    before = ours.state()
    with pytest.raises(InvalidDataset, match=message):
        ours.begin(header("next", classes, shape))
    assert same_bits(before, ours.state())
    ours.begin(header("next"))


def test_a_buffer_that_is_too_small_is_refused_with_the_smallest_that_works() -> None:
    def with_capacity(numbers: int) -> CompressThenRecall:
        return CompressThenRecall(method_of(), PLAIN, Allowance(numbers, 3, 0))

    with pytest.raises(ValueError, match="the smallest that works has 228 numbers, or 3.6 real images"):
        with_capacity(100).begin(header())
    with pytest.raises(ValueError, match="228 numbers"):
        with_capacity(227).begin(header())
    smallest = with_capacity(228)
    learn(smallest, *BarStream(3, 30).every())
    assert smallest.numbers() <= 228


def test_more_tasks_than_planned_are_refused() -> None:
    ours = learner(tasks=1)
    learn(ours, *BarStream(1).every())
    with pytest.raises(ValueError, match="shared by 1 tasks and all shares are taken; bars-0 needs a buffer"):
        ours.begin(header())


def test_an_empty_task_and_one_without_samples_of_a_class_can_be_continued() -> None:
    ours = learner()
    ours.begin(header())
    with pytest.raises(InvalidDataset, match="bars-0 ended without a sample$"):
        ours.finish()
    batch = bars(9, 0)
    ours.observe(Split(batch.images[batch.labels < 2], batch.labels[batch.labels < 2]))
    with pytest.raises(InvalidDataset, match="bars-0 ended without a sample of bottom"):
        ours.finish()
    with pytest.raises(ValueError, match="has not ended; finish it first"):
        ours.begin(header("next"))
    ours.observe(bars(30, 0))
    ours.finish()
    assert ours.seen[0].counts == [13, 13, 10]


def test_samples_without_a_task_and_tasks_that_have_not_ended_are_refused() -> None:
    ours = learner()
    with pytest.raises(ValueError, match="there is no current task"):
        ours.observe(bars(3, 0))
    with pytest.raises(ValueError, match="there is no memory of task 0; 0 tasks have ended"):
        ours.predictor(0)


def test_black_pictures_are_learned_without_errors() -> None:
    ours = learner()
    ours.begin(header())
    for _ in range(4):
        ours.observe(Split(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.arange(10) % 3))
    ours.finish()
    assert all(value.isfinite().all() for value in ours.memory(0).tensors().values())


def test_a_loss_that_is_not_finite_is_refused_with_a_sentence() -> None:
    broken = Standardise(torch.tensor([0.0]), torch.tensor([0.25]))
    ours = CompressThenRecall(method_of("outer.rate=1e30", "outer.steps=3"), broken, Allowance(6 * 64, 1, 0))
    ours.begin(header())
    with pytest.raises(FloatingPointError, match="the task bars-0: the outer loss is .* lower `outer.rate`"):
        for _ in range(5):
            ours.observe(bars(10, 0))
