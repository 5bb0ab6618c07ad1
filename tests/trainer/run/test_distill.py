"""The outer loop: it learns, repeats itself, resumes to the same bytes, and stops without losing anything."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from recall_server.core.io.tensor_file import canonical_json, pack
from recall_server.errors import InvalidCheckpoint, StorageFailed, TrainingFailed
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import flattened
from trainer.objectives.components import Components
from trainer.objectives.real_data import RealData
from trainer.run.checkpoint import Checkpoint
from trainer.run.distill import Distillation, Interrupted
from trainer.run.progress import RunLimits, RunState
from trainer.run.setup.build import fit_preprocessing, real_data

SMALL = [
    "objective.eager=true",
    "objective.network=convnet:filters=4,depth=2",
    "objective.steps=4",
    "objective.window=2",
    "objective.real_batch=12",
    "objective.rate=0.1",
]


class Run:
    """One small distillation with everything it needs."""

    def __init__(
        self, dataset: ImageDataset, *overrides: str, path: Path | None = None, method: str = "window"
    ) -> None:
        self.method: Method = compose(method, [*SMALL, *overrides])
        budget = self.method.budget(dataset, images_per_class=2, bases=4, rows=None)
        self.generator = torch.Generator().manual_seed(0)
        cpu = torch.device("cpu")
        preprocessing = fit_preprocessing(dataset, self.method)
        self.data: RealData = real_data(dataset, preprocessing, cpu)
        self.components = self.method.build(Problem(dataset, preprocessing, self.generator, cpu), budget)
        self.distillation = Distillation(
            self.components,
            self.method,
            run=flattened(self.method),
            limits=RunLimits(self.method.outer.steps, validate_every=2),
            generator=self.generator,
            checkpoint=path,
        )

    def go(self, **arguments: object) -> dict[str, Tensor]:
        return self.distillation.distill(self.data, **arguments)  # type: ignore[arg-type]


def curve(run: Run) -> list[tuple[int, float]]:
    return [(point.step, point.accuracy) for point in run.distillation.progress.history]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


NETWORKS = ("objective.network", "retraining.network", "queries.encoder")
METHODS = {
    "window": ["start=noise"],
    "bptt": [],
    "rtp": ["objective.steps=3", "objective.window=3"],
    "image-addressing": [
        "start=noise",
        "objective.classes_per_step=2",
        "queries.shots=2",
        "queries.size=5",
        "queries.encoder=convnet:filters=4,depth=2",
    ],
    "image-addressing-warm": [
        "objective.classes_per_step=2",
        "queries.shots=2",
        "queries.size=5",
        "queries.pretraining_steps=5",
        *(f"{section}=convnet:filters=4,depth=2" for section in NETWORKS),
    ],
}


def assert_every_tensor_learns(run: Run) -> None:
    """Every learned tensor changes, and the loss falls."""
    before = {name: leaf.detach().clone() for name, leaf in run.components.tensors().items()}
    losses: list[float] = []
    after = run.go(report=lambda progress: losses.append(progress.loss))
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert sum(losses[-8:]) < sum(losses[:8])


@pytest.mark.parametrize("method", METHODS)
def test_every_learned_tensor_changes_and_the_loss_falls(bars_dataset: ImageDataset, method: str) -> None:
    run = Run(
        bars_dataset, *METHODS[method], "outer.steps=25", "outer.optimiser=adam", "outer.rate=0.05", method=method
    )
    assert_every_tensor_learns(run)


VARIANTS = {
    "no momentum": ["objective.optimiser.momentum=0"],
    "forward-only momentum": ["objective.optimiser.gradient=forward"],
    "adam inside": ["objective.optimiser=adam", "objective.rate=0.02"],
    "learned step size": ["objective.learn_rate=true"],
    "soft targets": ["memory.targets=soft", "outer.optimiser=adam"],
    "kaiming": ["start.initialisation=kaiming"],
    "bases at full resolution": ["memory.resolution=full"],
    "pictures at half resolution": ["memory=stored_items"],
    "an mlp in the span of the bases": [
        "objective=subspace_unrolled",
        "objective.network=mlp:hidden=16",
        "objective.steps=6",
        "objective.window=4",
        "objective.rate=0.1",
        "objective.real_batch=12",
    ],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_a_method_learns(bars_dataset: ImageDataset, variant: str) -> None:
    run = Run(bars_dataset, "start=noise", *VARIANTS[variant], "outer.steps=25", "outer.rate=0.05")
    assert_every_tensor_learns(run)


def test_a_run_that_learns_its_step_size_resumes_to_the_same_bytes(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    learned = ["objective.learn_rate=true", "memory.storage=int8", "outer.steps=4"]
    whole = Run(bars_dataset, *learned).go()
    path = tmp_path / "run.checkpoint"
    halfway = Run(bars_dataset, *learned, path=path)
    halfway.distillation.limits = RunLimits(4, validate_every=2, checkpoint_seconds=0)

    def stop(progress: RunState) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halfway.go(report=stop)
    resumed = Run(bars_dataset, *learned, path=path)
    resumed.distillation.resume(path)
    assert resumed.distillation.progress.step == 2, "the checkpoint is written behind the report"
    assert same(whole, resumed.go())


def test_the_same_seed_gives_the_same_memory_and_global_randomness_is_untouched(bars_dataset: ImageDataset) -> None:
    state = torch.random.get_rng_state()
    assert same(Run(bars_dataset, "outer.steps=3").go(), Run(bars_dataset, "outer.steps=3").go())
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_run_killed_at_a_step_resumes_to_the_same_bytes(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    whole = Run(bars_dataset, "outer.steps=6").go(validate=lambda: [0.5])
    path = tmp_path / "run.checkpoint"
    killed = Run(bars_dataset, "outer.steps=6", path=path)

    def interrupt(progress: RunState) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        killed.go(validate=lambda: [0.5], report=interrupt)
    resumed = Run(bars_dataset, "outer.steps=6", path=path)
    resumed.distillation.resume(path)
    assert resumed.distillation.progress.step == 3
    assert same(whole, resumed.go(validate=lambda: [0.5]))


def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(
    bars_dataset: ImageDataset, tmp_path: Path
) -> None:
    path = tmp_path / "run.checkpoint"
    Run(bars_dataset, "outer.steps=1", path=path).go()
    with pytest.raises(InvalidCheckpoint, match=r"another run: its outer\.steps is 1, this run's is 2"):
        Run(bars_dataset, "outer.steps=2", path=path).distillation.resume(path)


def test_a_checkpoint_of_another_version_is_refused_and_says_so(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    run = Run(bars_dataset, "outer.steps=1", path=path)
    run.go()
    written = Checkpoint.load(path)
    older = {key: value for key, value in written.run.items() if key != "memory.storage"}
    Checkpoint(older, written.progress, written.tensors).save(path)
    with pytest.raises(InvalidCheckpoint, match=r"of another version .*: the checkpoint does not say memory\.storage"):
        run.distillation.resume(path)
    Checkpoint({**written.run, "method.magic": 1}, written.progress, written.tensors).save(path)
    with pytest.raises(InvalidCheckpoint, match=r"of another version .*: this version does not know method\.magic"):
        run.distillation.resume(path)
    document = canonical_json({"format": 99, "run": {}, "progress": {}})
    path.write_bytes(pack({}, key="checkpoint", text=document))
    with pytest.raises(InvalidCheckpoint, match="its format is 99, this code's 2"):
        run.distillation.resume(path)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_or_missing_checkpoint_is_refused(bars_dataset: ImageDataset, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.checkpoint"
    if content:
        path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=r"run\.checkpoint is not a checkpoint that can be resumed"):
        Run(bars_dataset, path=path).distillation.resume(path)


def test_the_best_state_on_validation_is_kept_not_the_last(bars_dataset: ImageDataset) -> None:
    run = Run(bars_dataset, "outer.steps=6")
    scores = iter([0.1, 0.2, 0.9, 0.3])
    kept: list[dict[str, Tensor]] = []

    def validate() -> list[float]:
        kept.append({name: leaf.detach().clone() for name, leaf in run.components.tensors().items()})
        return [next(scores)]

    best = run.go(validate=validate)
    assert same(best, kept[2])
    assert curve(run) == [(0, 0.1), (2, 0.2), (4, 0.9), (6, 0.3)]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    bars_dataset: ImageDataset, tmp_path: Path
) -> None:
    path = tmp_path / "run.checkpoint"
    run = Run(bars_dataset, "outer.steps=4", "outer.clip=0", path=path)

    def poison(progress: RunState) -> None:
        if progress.step == 2:
            run.data.items[:] = torch.nan

    with pytest.raises(FloatingPointError, match="the outer loss is nan and its gradient has norm nan at outer step 2"):
        run.go(report=poison)
    resumed = Run(bars_dataset, "outer.steps=4", "outer.clip=0", path=path)
    resumed.distillation.resume(path)
    assert all(leaf.isfinite().all() for leaf in resumed.components.tensors().values())


def test_a_gradient_that_is_not_finite_does_not_change_the_memory(bars_dataset: ImageDataset, tmp_path: Path) -> None:
    """The loss alone may be finite: clipping by a norm of NaN once turned every number of the memory into NaN."""
    path = tmp_path / "run.checkpoint"
    run = Run(bars_dataset, "outer.steps=4", path=path)
    leaf = next(iter(run.components.tensors().values()))
    leaf.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(FloatingPointError, match="gradient has norm nan at outer step 0"):
        run.go()
    resumed = Run(bars_dataset, "outer.steps=4", path=path)
    resumed.distillation.resume(path)
    assert all(leaf.isfinite().all() for leaf in resumed.components.tensors().values())


def test_a_diverging_validation_network_counts_as_zero_and_the_run_continues(
    bars_dataset: ImageDataset,
) -> None:
    run = Run(bars_dataset, "outer.steps=4")
    scores: list[float | Exception] = [0.1, TrainingFailed("diverged"), 0.4]

    def validate() -> list[float]:
        score = scores.pop(0)
        if isinstance(score, Exception):
            raise score
        return [score]

    run.go(validate=validate)
    assert curve(run) == [(0, 0.1), (2, 0.0), (4, 0.4)]


def test_a_full_disk_keeps_the_last_checkpoint(
    bars_dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.checkpoint"
    run = Run(bars_dataset, "outer.steps=2", path=path)
    run.go()
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed):
        run.distillation.save()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_limit_of_minutes_stops_the_run_between_two_steps(bars_dataset: ImageDataset) -> None:
    run = Run(bars_dataset, "outer.steps=100000")
    run.distillation.limits = RunLimits(100_000, minutes=0.01)
    run.go()
    assert 0 < run.distillation.progress.step < 100_000


class Clock:
    """A clock on which every look takes a second, and a validation twenty."""

    now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now

    def validate(self) -> list[float]:
        self.now += 20
        return [0.5]


def test_minutes_include_what_came_before_the_run_and_the_validation_at_its_end(bars_dataset: ImageDataset) -> None:
    run, clock = Run(bars_dataset, "outer.steps=100000"), Clock()
    run.distillation.limits = RunLimits(None, minutes=2, clock=clock, begun=clock.now - 30)
    run.go(validate=clock.validate)
    progress = run.distillation.progress
    assert progress.step > 0
    assert 110 <= progress.seconds <= 130, "thirty seconds were gone before, and the last validation fits"


def test_minutes_that_are_gone_before_the_first_step_give_the_start(bars_dataset: ImageDataset) -> None:
    run, clock = Run(bars_dataset, "outer.steps=100000"), Clock()
    run.distillation.limits = RunLimits(None, minutes=1, clock=clock, begun=clock.now - 90)
    run.go(validate=clock.validate)
    assert run.distillation.progress.step == 0


def test_zero_outer_steps_give_the_start_itself(bars_dataset: ImageDataset) -> None:
    run = Run(bars_dataset, method="principal")
    assert same({name: leaf.detach() for name, leaf in run.components.tensors().items()}, run.go())


@pytest.mark.parametrize(("share", "expected"), [(0.5, 3), (0.0, 0), (1.0, 6)])
def test_the_last_outer_steps_recall_with_the_rounding_of_the_file(
    bars_dataset: ImageDataset, share: float, expected: int
) -> None:
    run = Run(bars_dataset, "outer.steps=6", "memory.storage=int8", f"outer.storage_share={share}")
    with mock.patch.object(Components, "sampler", autospec=True, side_effect=Components.sampler) as sampler:
        run.go()
    seen = [call.args[2] for call in sampler.call_args_list if len(call.args) > 2]  # but for the state's own
    assert seen == ["float32"] * (6 - expected) + ["int8"] * expected
