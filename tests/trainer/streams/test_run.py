"""A whole run: tested as the stream grows, resumed to the same end, published per task, with bounded memory."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensor

from recall_server.errors import InvalidCheckpoint, InvalidDataset, StorageFailed
from recall_server.library.library import Library
from tests.trainer.streams.stream_examples import BarStream, method_of, write_task
from trainer.data.datasets import load_dataset
from trainer.run.distill import Interrupted
from trainer.streams.experiment import StreamExperiment, prepare, preprocessing
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.learners.learner import Allowance
from trainer.streams.run import StreamRun
from trainer.streams.scores import Scores, figures, table
from trainer.streams.sources.folder import FolderStream
from trainer.streams.sources.named import NamedStream, StreamSpec
from trainer.streams.sources.task import MINIBATCH


def folder_of_tasks(folder: Path, count: int = 3) -> Path:
    for number in range(count):
        write_task(folder / f"task-{number}", seed=number)
    return folder


def experiment(
    folder: Path, *overrides: str, baselines: bool = True, memory: int = 18, **more: object
) -> StreamExperiment:
    return StreamExperiment(str(folder), method_of(*overrides), 0, memory=memory, baselines=baselines, **more)  # type: ignore[arg-type]


class Stop:
    """Says stop at the n-th minibatch."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_every_learner_is_evaluated_as_the_stream_grows(tmp_path: Path) -> None:
    run = prepare(experiment(folder_of_tasks(tmp_path / "tasks")))
    scores = run.run()
    assert list(scores.rows) == ["recall", "online SGD", "experience replay", "real images"]
    for name in scores.rows:
        assert [seen for seen, _ in scores.curve(name)] == [1, 2, 3]
        assert set(scores.last(name)) == {0, 1, 2}
    assert scores.retained("recall") > 0.7
    assert scores.transfer("recall") == 0  # a memory does not change when its task has ended
    assert scores.last("online SGD")[1] < 0.5 < scores.last("recall")[1]  # the same names stand for other bars
    assert "experience replay" in table([scores], [0.9])
    assert figures([scores], [0.9])["joint"]["retained_accuracy"] == 0.9
    assert {"pictures", "judging", *scores.rows} <= run.seconds.spent.keys()


@pytest.mark.parametrize("after", [0, 3, 5, 8])
def test_a_run_stopped_anywhere_resumes_to_the_same_end(tmp_path: Path, after: int) -> None:
    asked, file = experiment(folder_of_tasks(tmp_path / "tasks", 2), memory=12), tmp_path / "run.checkpoint"
    whole = prepare(asked, bundles=tmp_path / "whole")
    expected = whole.run()
    with pytest.raises(Interrupted):
        prepare(asked, checkpoint=file, bundles=tmp_path / "parts").run(stopped=Stop(after))
    resumed = prepare(asked, checkpoint=file, bundles=tmp_path / "parts")
    resumed.resume()
    assert resumed.run().rows == expected.rows
    for one, other in zip(whole.learners, resumed.learners, strict=True):
        mine, theirs = one.state().tensors, other.state().tensors
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    names = [sorted(path.name for path in (tmp_path / part).iterdir()) for part in ("whole", "parts")]
    assert names[0] == names[1] == ["task-0.safetensors", "task-1.safetensors"]


def test_a_finished_run_returns_its_scores_at_once(tmp_path: Path) -> None:
    asked, file = experiment(folder_of_tasks(tmp_path / "tasks", 2), memory=12), tmp_path / "run.checkpoint"
    scores = prepare(asked, checkpoint=file).run()
    again = prepare(asked, checkpoint=file)
    again.resume()
    assert again.run().rows == scores.rows


def test_a_checkpoint_of_another_stream_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    tasks, file = folder_of_tasks(tmp_path / "tasks", 2), tmp_path / "run.checkpoint"
    with pytest.raises(InvalidCheckpoint, match="is not a checkpoint that can be resumed"):
        prepare(experiment(tasks), checkpoint=file).resume()
    with pytest.raises(Interrupted):
        prepare(experiment(tasks), checkpoint=file).run(stopped=Stop(2))
    with pytest.raises(InvalidCheckpoint, match=r"another run: its outer\.steps is 1, this run's is 2"):
        prepare(experiment(tasks, "outer.steps=2"), checkpoint=file).resume()
    with pytest.raises(InvalidCheckpoint, match="another run: its memory is 1152, this run's is 1280"):
        prepare(experiment(tasks, memory=20), checkpoint=file).resume()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InvalidCheckpoint):
        prepare(experiment(tasks), checkpoint=file).resume()


def test_every_finished_task_is_a_bundle_that_a_server_loads(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(sentence: str) -> None:
        seen.append(sorted(Library.load(tmp_path).bundles))

    prepare(
        experiment(folder_of_tasks(tmp_path / "tasks"), baselines=False), bundles=tmp_path / "bundles", report=look
    ).run()
    assert seen == [["task-0"], ["task-0", "task-1"], ["task-0", "task-1", "task-2"]]
    library = Library.load(tmp_path)
    assert library.rejected == ()
    assert [reference.qualified for reference in library.resolve(["task-0:top", "task-2:middle"])] == [
        "task-0:top",
        "task-2:middle",
    ]
    manifest = library.get("task-1").bundle.manifest
    assert manifest.budget.numbers_stored <= manifest.budget.images_per_class * 3 * 64
    assert manifest.provenance.dataset == "tasks, task 1 of 3: 54 samples seen once"
    assert re.fullmatch("[0-9a-f]{64}", manifest.provenance.dataset_sha256)


def test_a_full_disk_keeps_published_bundles(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    run = prepare(experiment(folder_of_tasks(tmp_path / "tasks", 2), baselines=False), bundles=tmp_path / "bundles")

    def fill(number: int) -> None:
        publish(number)
        (tmp_path / "bundles").rename(tmp_path / "moved")
        (tmp_path / "bundles").write_text("in the way")

    publish, run._finished = run._finished, fill
    with pytest.raises(StorageFailed):
        run.run()
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["task-0.safetensors"]


def test_a_stream_that_ends_early_keeps_its_memories() -> None:
    stream = BarStream(2, planned=5)
    first = stream.task(0)
    assert first is not None
    ours = CompressThenRecall(method_of(), preprocessing(method_of(), first), Allowance(30 * 64, 5, 0))
    scores = StreamRun(stream, [ours], description={}).run()
    assert len(ours.buffer.memories) == 2
    assert set(scores.last("recall")) == {0, 1}
    assert ours.numbers() <= 2 * ours.buffer.share


def test_bad_tasks_stop_the_run_with_a_sentence_and_the_tasks_before_are_kept(tmp_path: Path) -> None:
    tasks = folder_of_tasks(tmp_path / "tasks", 2)
    write_task(tasks / "task-2", seed=2, side=9)
    with pytest.raises(InvalidDataset, match="the images of task-2 are 9x9 in grey, those of task-0 8x8 in grey"):
        prepare(experiment(tasks, baselines=False), bundles=tmp_path / "bundles").run()
    assert len(list((tmp_path / "bundles").iterdir())) == 2


def test_a_task_of_one_class_and_an_empty_one_are_refused(tmp_path: Path) -> None:
    write_task(tmp_path / "one" / "task", seed=0, classes=("only",))
    with pytest.raises(InvalidDataset, match="has 1 class; a classifier needs two or more"):
        prepare(experiment(tmp_path / "one"))
    (tmp_path / "none" / "task").mkdir(parents=True)
    with pytest.raises(InvalidDataset, match="is empty"):
        prepare(experiment(tmp_path / "none"))


def test_arriving_tasks_are_awaited_and_learned_in_order_of_their_names(tmp_path: Path) -> None:
    waited: list[float] = []

    def arrive(seconds: float) -> None:
        waited.append(seconds)
        made = write_task(tmp_path / f".unfinished-{len(waited)}", seed=len(waited))
        made.rename(tmp_path / f"task-{len(waited)}")

    stream = FolderStream(tmp_path, seed=0, tasks=3, follow=True)
    names = [task.header.name for number in range(4) if (task := stream.await_task(number, wait=arrive))]
    assert names == ["task-1", "task-2", "task-3"]
    assert len(waited) == 3
    write_task(tmp_path / "task-0", seed=9)
    with pytest.raises(InvalidDataset, match="the task task-0 comes before task-3, which was used"):
        stream.task(0)


def test_a_run_stopped_while_waiting_keeps_its_memories(tmp_path: Path) -> None:
    tasks, file = folder_of_tasks(tmp_path / "tasks", 1), tmp_path / "run.checkpoint"
    asked = experiment(tasks, tasks=2, follow=True, memory=12)
    with pytest.raises(Interrupted):
        prepare(asked, checkpoint=file).run(stopped=Stop(7))  # six minibatches and the end of the first task
    write_task(tasks / "task-1", seed=1)
    resumed = prepare(asked, checkpoint=file)
    resumed.resume()
    assert set(resumed.run().last("recall")) == {0, 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": None, "follow": True}, "--follow needs --tasks"),
        ({}, "has no task; it must contain one folder per task"),
    ],
)
def test_a_folder_without_tasks_is_refused(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidDataset, match=message):
        FolderStream(tmp_path, seed=0, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidDataset, match="is neither a folder of tasks nor the name of a stream"):
        FolderStream(tmp_path / "nowhere", seed=0)


def test_a_folder_name_that_cannot_name_a_bundle_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path / "my task", seed=0)
    with pytest.raises(InvalidDataset, match="'my task' cannot name a bundle"):
        FolderStream(tmp_path, seed=0)


def test_resident_memory_is_constant_over_a_hundred_tasks() -> None:
    spec = StreamSpec("digits", "permutations", 100, 10 * MINIBATCH, 1_000)
    stream = NamedStream("many", spec, load_dataset("digits"), seed=0)
    first = stream.task(0)
    assert first is not None
    small = method_of("memory.resolution=full", "stream.least_samples=20")
    ours = CompressThenRecall(small, preprocessing(small, first), Allowance(1_000 * 64, 100, 0))
    resident: list[int] = []

    def look(number: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * 4096)

    StreamRun(stream, [ours], description={}, finished=look, judge_every=100).run()
    assert len(resident) == 100
    assert max(resident[50:]) - max(resident[10:50]) < 8 * 2**20  # the buffer itself is a quarter of a mebibyte


def test_only_the_buffer_shares_of_finished_tasks_are_kept() -> None:
    """By what is held, not by what a learner says of itself: a view of something larger holds all of it."""
    stream = NamedStream(
        "many", StreamSpec("digits", "permutations", 8, 10 * MINIBATCH, 80), load_dataset("digits"), seed=0
    )
    first = stream.task(0)
    assert first is not None
    settings = method_of("memory.resolution=full", "outer.steps=0", "retraining.steps=2")
    learners = StreamExperiment("digits-rotations", settings, 0, memory=80).learners(stream, first)
    held: list[int] = []
    gc.freeze()  # what exists already does not change, and is not looked at
    StreamRun(stream, learners, description={}, judge_every=8, report=lambda told: held.append(tensor_bytes())).run()
    gc.unfreeze()
    share = 10 * 64 * 4  # of a memory, and as much of real images; the replay's buffer is full after the first task
    assert 0 < held[-1] - held[2] < 1.1 * 5 * 2 * share


def tensor_bytes() -> int:
    """What all tensors of this process hold."""
    gc.collect()
    tensors = (thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))
    storages = [storage for tensor in tensors if (storage := own_storage(tensor)) is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def own_storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """None for those that hold nothing: what stands for a tensor that is compiled, or wraps one under a transform.

    Other tests of the same process leave some of both.
    """
    if issubclass(type(tensor), FakeTensor):
        return None
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return None


def test_tensors_of_transforms_are_not_counted_as_memory() -> None:
    seen: list[torch.UntypedStorage | None] = []

    def square(value: torch.Tensor) -> torch.Tensor:
        seen.append(own_storage(value))
        return value**2

    torch.func.grad(square)(torch.tensor(3.0))
    assert seen == [None]
    assert own_storage(torch.ones(3)) is not None


def test_scores_are_equal_after_json_and_include_forgetting() -> None:
    scores = Scores()
    for after, task, value in [(0, 0, 0.9), (1, 1, 0.8), (1, 0, 0.7), (2, 2, 1.0), (2, 0, 0.5), (2, 1, 0.6)]:
        scores.add("ours", after=after, task=task, accuracy=value)
    again = Scores.from_json(scores.to_json())
    assert again.rows == scores.rows
    assert again.retained("ours") == pytest.approx(0.7)
    assert again.transfer("ours") == pytest.approx((0.5 - 0.9 + 0.6 - 0.8) / 2)
    assert again.curve("ours") == [(1, 0.9), (2, pytest.approx(0.75)), (3, pytest.approx(0.7))]
