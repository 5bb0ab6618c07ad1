"""A bundle is there at once and only ever gets better, whatever ends the run."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.memory import AddressedBases
from recall_server.core.preprocessing import AbstractPreprocessing, Projected, Standardise
from recall_server.errors import InvalidCheckpoint, StorageFailed
from tests.tolerances import assert_close
from tests.trainer.killed_runs import request
from tests.trainer.run.test_distill import Run
from trainer.cli import commands
from trainer.data.datasets import ImageDataset
from trainer.objectives.components import Components
from trainer.run.distill import Interrupted
from trainer.run.progress import RunState, Validation
from trainer.run.setup.starting_point import StartingPoint

ROOT = Path(__file__).resolve().parents[3]
KILLS = 100


def versions(run: Run, scores: list[list[float]]) -> list[tuple[int, int, float]]:
    """(outer step, version, validation accuracy) of everything that a run publishes."""
    published: list[tuple[int, int, float]] = []
    waiting = iter(scores)
    run.go(
        validate=lambda: next(waiting),
        publish=lambda tensors, progress: published.append((progress.step, progress.version, progress.published)),
    )
    return published


def test_the_start_is_published_at_once_and_then_every_better_state(bars_dataset: ImageDataset) -> None:
    scores = [[0.3], [0.2], [0.5], [0.4]]
    found = versions(Run(bars_dataset, "outer.steps=6"), scores)
    assert found == [(0, 1, -math.inf), (4, 2, 0.5), (6, 3, 0.5)]


def test_an_improvement_within_the_noise_is_not_published(bars_dataset: ImageDataset) -> None:
    """Two networks 0.02 apart: the standard error of a difference of two such means is 0.014."""
    scores = [[0.49, 0.51], [0.5, 0.52], [0.51, 0.53], [0.4, 0.42]]
    found = versions(Run(bars_dataset, "outer.steps=6"), scores)
    assert [step for step, _, _ in found] == [0, 4, 6]
    assert found[1][2] == pytest.approx(0.52), "a rise is against what is published, so that small ones add up"


def test_noise_is_the_standard_error_of_the_difference_between_two_validations() -> None:
    progress = RunState(history=[Validation(0, 0.0, (0.4, 0.6)), Validation(1, 1.0, (0.5, 0.5))])
    assert progress.noise == pytest.approx(math.sqrt(2 * (0.02 / 2 + 0.0) / 2))
    assert RunState(history=[Validation(0, 0.0, (0.4,))]).noise == 0


def test_progress_is_equal_after_a_round_trip_through_json() -> None:
    for progress in (RunState(), RunState(3, 2.0, math.nan, 0.5, 2, 0.4, [Validation(0, 0.1, (0.4, 0.6))])):
        again = RunState.from_json(progress.to_json())
        assert again.to_json() == progress.to_json()
        assert (again.best, again.published) == (progress.best, progress.published)


def test_a_distilled_bundle_records_version_minutes_and_curve(bars_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "bars.safetensors"
    bundle = commands.distill(request(bars_folder, output, steps=3))
    progress = bundle.manifest.progress
    assert progress is not None
    assert [point.outer_steps for point in progress.validation] == [0, 1, 2, 3]
    assert progress.version >= 2
    assert progress.minutes == pytest.approx(bundle.manifest.provenance.seconds / 60, abs=0.01)


def test_an_existing_bundle_is_overwritten_only_on_request(bars_folder: Path, tmp_path: Path) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", steps=1)
    commands.distill(wish)
    before = wish.output.read_bytes()
    with pytest.raises(ValueError, match=r"bars\.safetensors exists already; go on from it with --start"):
        commands.distill(wish)
    assert wish.output.read_bytes() == before
    commands.distill(replace(wish, overwrite=True))


def test_continuing_in_place_keeps_the_bundle_until_there_is_a_better_one(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", steps=2)
    first = commands.distill(wish)
    method = wish.method.varied(start="bundle")
    again = replace(wish, method=method, begin=StartingPoint(bundle=first))
    before = wish.output.read_bytes()
    scores = iter([[0.5], [0.4], [0.3]])
    monkeypatch.setattr(commands, "served_accuracy", lambda *_: Scores(next(scores)))
    commands.distill(again)
    assert wish.output.read_bytes() == before, "nothing better was found"
    said = capsys.readouterr().err
    assert "nothing better was found, and bars.safetensors is unchanged: 50.0 % on 9 validation pictures" in said
    assert "with so few pictures, that of the start may be anything from 19 to 73" in said
    scores = iter([[0.5], [0.4], [0.6]])
    better = commands.distill(again)
    assert "better than the start was found: 50.0 % on 9 validation pictures at the start, 60.0 % at best" in (
        capsys.readouterr().err
    )
    assert better.sha256 != first.sha256
    assert better.manifest.provenance.hyper_parameters["start_sha256"] == first.sha256


def test_soft_targets_are_learned_stored_and_continued(bars_folder: Path, tmp_path: Path) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", "memory.targets=soft", steps=3)
    bundle = commands.distill(wish)
    assert bundle.memory.targets.form == "soft"
    assert bundle.manifest.budget.numbers_stored == bundle.memory.stored_numbers()
    assert bundle.manifest.provenance.hyper_parameters["memory.targets"] == "soft"
    method = wish.method.varied(start="bundle", outer={"rate": 1e-9})
    again = commands.distill(
        replace(wish, method=method, begin=StartingPoint(bundle=bundle), output=tmp_path / "again.safetensors")
    )
    assert_close(again.memory.targets.values, bundle.memory.targets.values, terms=4)
    with pytest.raises(ValueError, match="has soft targets; keep them with --set memory.targets=soft"):
        hard = method.varied(memory={"targets": "hard"})
        commands.distill(
            replace(wish, method=hard, begin=StartingPoint(bundle=bundle), output=tmp_path / "hard.safetensors")
        )


def test_a_projected_memory_is_measured_as_served_and_continued_without_projection(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", "start=principal", steps=2)
    plain = commands.distill(wish)
    assert isinstance(plain.preprocessing, Standardise) and isinstance(plain.memory, AddressedBases)
    projection = Projected.onto(plain.memory.span(), plain.preprocessing)
    manifest = plain.manifest.model_copy(update={"preprocessing": "projected"})
    instant = MemoryBundle(manifest, plain.memory, projection).save(wish.output)
    spaces: list[str] = []

    def validate(components: object, dataset: object, method: object, preprocessing: AbstractPreprocessing) -> Scores:
        spaces.append(preprocessing.kind)
        return Scores([0.5 if len(spaces) < 3 else 0.7])

    monkeypatch.setattr(commands, "served_accuracy", validate)
    again = replace(wish, method=wish.method.varied(start="bundle"), begin=StartingPoint(bundle=instant))
    better = commands.distill(again)
    assert spaces == ["projected", "standardise", "standardise"]
    assert better.manifest.preprocessing == "standardise"
    assert better.sha256 != instant.sha256


class CrashedError(Exception):
    """A run dies without a word."""


def crash() -> None:
    raise CrashedError


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("published", [False, True], ids=["before a better version", "after one"])
@pytest.mark.parametrize(
    ("stop", "checkpoint_seconds"),
    [(crash, math.inf), (crash, -1.0), (ctrl_c, math.inf)],
    ids=["a crash long after the checkpoint", "a crash right after it", "Ctrl-C"],
)
def test_an_interrupted_run_in_place_resumes_to_the_same_bytes(  # noqa: PLR0917
    bars_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: Callable[[], None],
    checkpoint_seconds: float,
    published: bool,
) -> None:
    """Resumed as it was begun, with OUTPUT itself as the start, which is another bundle once it was written over."""
    wish = request(bars_folder, tmp_path / "bars.safetensors", steps=4)
    first = commands.distill(wish)
    start = wish.output.read_bytes()
    limits = replace(wish.limits, checkpoint_seconds=checkpoint_seconds)
    again = replace(
        wish,
        method=wish.method.varied(start="bundle"),
        begin=StartingPoint(bundle=first),
        limits=limits,
    )

    score_of: dict[bytes, float] = {}
    waiting = iter([0.5, 0.6 if published else 0.4, 0.3, 0.7, 0.2])

    def scored(components: Components) -> Scores:
        """By what was learned: a run that goes on with anything else meets states that the whole one never saw."""
        return Scores([score_of[state(components)]])

    def first_scored(components: Components, *_: object) -> Scores:
        score_of[state(components)] = next(waiting)
        return scored(components)

    monkeypatch.setattr(commands, "served_accuracy", first_scored)
    whole = commands.distill(again)

    wish.output.write_bytes(start)
    seen: list[bytes] = []

    def stopped(components: Components, *_: object) -> Scores:
        seen.append(wish.output.read_bytes())
        if len(seen) == 3:
            stop()
        return scored(components)

    monkeypatch.setattr(commands, "served_accuracy", stopped)
    with pytest.raises((CrashedError, Interrupted)):
        commands.distill(again)
    left = wish.output.read_bytes()
    assert (left != start) == published
    resumed = commands.distill(replace(again, begin=StartingPoint(bundle=MemoryBundle.load(wish.output)), resume=True))
    assert seen[3] == left, "what there is stays until there is a better one"
    for name, tensor in whole.memory.tensors().items():
        assert tensor.numpy().tobytes() == resumed.memory.tensors()[name].numpy().tobytes()
    assert resumed.manifest.provenance.hyper_parameters == whole.manifest.provenance.hyper_parameters
    assert resumed.manifest.provenance.hyper_parameters["start_sha256"] == first.sha256
    assert not wish.checkpoint.exists()


def test_a_run_in_place_is_not_resumed_from_a_bundle_that_it_did_not_write(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", steps=1)
    first, other = (commands.distill(replace(wish, seed=seed, overwrite=True)) for seed in (0, 1))
    again = replace(wish, method=wish.method.varied(start="bundle"), begin=StartingPoint(bundle=first))
    first.save(wish.output)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "served_accuracy", lambda *_: crash())
        with pytest.raises(CrashedError):
            commands.distill(again)
    checkpoint = wish.checkpoint.read_bytes()
    wish.checkpoint.unlink()
    other.save(wish.output)
    further = commands.distill(replace(again, begin=StartingPoint(bundle=other), overwrite=True))
    wish.checkpoint.write_bytes(checkpoint)
    for bundle in (other, further):
        bundle.save(wish.output)
        with pytest.raises(InvalidCheckpoint, match=f"its start_sha256 is '{first.sha256}', this run's is"):
            commands.distill(replace(again, begin=StartingPoint(bundle=bundle), resume=True))
        assert MemoryBundle.load(wish.output).sha256 == bundle.sha256


def state(components: Components) -> bytes:
    return b"".join(tensor.detach().numpy().tobytes() for tensor in components.tensors().values())


class Scores:
    """What `validate` gives."""

    def __init__(self, values: list[float]) -> None:
        self.values = tuple(values)


def test_a_full_disk_keeps_the_previous_version(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", steps=3)
    scores = iter([[0.1], [0.5], [0.9]])
    first: list[bytes] = []

    def validate(*_: object) -> Scores:
        if len(first) == 1:
            monkeypatch.setattr("os.fsync", full)
        first.append(wish.output.read_bytes())
        return Scores(next(scores))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "served_accuracy", validate)
    with pytest.raises(StorageFailed, match="No space left on device"):
        commands.distill(wish)
    assert wish.output.read_bytes() == first[0]
    assert MemoryBundle.load(wish.output).manifest.progress is not None


@pytest.mark.timeout(300)  # a few seconds, but it forks and syncs a lot, which a busy machine is slow at
def test_a_run_killed_at_any_moment_leaves_the_best_bundle_that_it_wrote(bars_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.trainer.killed_runs", str(bars_folder), str(tmp_path), str(KILLS)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=290)
    written = []
    for folder in tmp_path.iterdir():
        progress = MemoryBundle.load(folder / "bars.safetensors").manifest.progress
        assert progress is not None
        said = (folder / "said").read_text().split() if (folder / "said").exists() else []
        # The kill may fall between writing a version and saying so.
        assert progress.version in (len(said), len(said) + 1)
        accuracies = [point.accuracy for point in progress.validation]
        assert progress.version == 1 or accuracies[-1] == max(accuracies)
        written.append(progress.version)
    assert len(written) == KILLS
    assert len(set(written)) > 3, "the moments were not random enough to test anything"
