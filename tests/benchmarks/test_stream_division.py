"""A run in parts, in any order and process, gives the same bits as the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.stream_division import Part, divide, prepare_part, spaced, together
from tests.trainer.streams.stream_examples import header, learner, method_of, write_task
from trainer.run.distill import Interrupted
from trainer.streams.experiment import StreamExperiment, prepare
from trainer.streams.scores import Scores


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    for number in range(3):
        write_task(tmp_path / "tasks" / f"task-{number}", seed=number)
    return tmp_path / "tasks"


def asked(tasks: Path, *overrides: str, **more: object) -> StreamExperiment:
    return StreamExperiment(str(tasks), method_of("stream.reuse=false", *overrides), 0, memory=18, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["window", "paper"])
def test_parts_in_any_order_have_the_scores_and_memories_of_the_whole_run(tasks: Path, method: str) -> None:
    small = ["objective.window=6"] if method == "paper" else []
    experiment = StreamExperiment(str(tasks), method_of("stream.reuse=false", *small, method=method), 0, memory=18)
    whole = prepare(experiment)
    expected = whole.run()
    stream = experiment.stream()
    found, memories = [], {}
    for part in reversed(divide(experiment.method, 3, baselines=True, joint=False)):
        run = prepare_part(experiment, part, stream)
        found.append(run.run())
        if part.task is not None:
            memories[part.task] = run.learners[0].state().tensors
    scores = together(found, 3)
    assert scores.rows == expected.rows
    assert list(scores.rows)[0] == "recall"
    for number, tensors in memories.items():
        for name in (f"memories.{number}.bases", f"memories.{number}.addressing"):
            assert torch.equal(tensors[name], whole.learners[0].state().tensors[name])


def test_a_missing_part_leaves_the_mean_of_the_others(tasks: Path) -> None:
    experiment = asked(tasks, baselines=False)
    found = [prepare_part(experiment, Part("recall", task), experiment.stream()).run() for task in (2, 0)]
    scores = together(found, 3)
    assert set(scores.last("recall")) == {0, 2}
    assert scores.transfer("recall") == 0
    assert together([], 3).rows == Scores().rows


def test_a_part_stopped_anywhere_resumes_to_the_same_end(tasks: Path, tmp_path: Path) -> None:
    experiment, part, file = asked(tasks, baselines=False), Part("recall", 1), tmp_path / "part.checkpoint"
    stream = experiment.stream()
    expected = prepare_part(experiment, part, stream).run()
    left = 4

    def stopped() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    with pytest.raises(Interrupted):
        prepare_part(experiment, part, stream, checkpoint=file).run(stopped=stopped)
    resumed = prepare_part(experiment, part, stream, checkpoint=file)
    resumed.resume()
    assert resumed.position.minibatch == 4
    assert resumed.run().rows == expected.rows


def test_a_method_that_starts_from_finished_memories_is_not_divided_by_tasks(tasks: Path) -> None:
    reusing = method_of("stream.reuse=true")
    assert divide(reusing, 3, baselines=True, joint=True) == [Part("baselines"), Part("joint"), Part("recall")]
    with pytest.raises(ValueError, match="needs all tasks, in order"):
        learner("stream.reuse=true").skip(header())


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 100])
def test_each_task_is_run_once_and_the_first_ones_are_spread_over_the_stream(count: int) -> None:
    order = spaced(count)
    assert sorted(order) == list(range(count))
    if count >= 20:
        first = sorted(order[: count // 4])
        assert max(b - a for a, b in zip(first, first[1:], strict=False)) <= 8
