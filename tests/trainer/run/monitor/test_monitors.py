"""Metrics, TensorBoard and previews of a run: complete, without doubles however often it dies, and never in its way."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recall_server.core.memory import AddressedBases
from recall_server.errors import StorageFailed
from tests.trainer.killed_runs import request
from trainer.cli import commands
from trainer.cli.progress_bar import Display
from trainer.evaluation.evaluate import Accuracies
from trainer.objectives.components import Components
from trainer.run.monitor.metrics import MetricsFile, read_metrics
from trainer.run.monitor.monitors import Monitors
from trainer.run.progress import RunState

STEPS = 6


class Killed(BaseException):
    """What nobody catches, as a kill would have it."""


@pytest.fixture(autouse=True)
def validation_of_the_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies that are a function of the memory, so that two runs agree, and that rise and fall."""

    def validate(components: Components, *rest: object) -> Accuracies:
        assert isinstance(components.memory, AddressedBases)
        return Accuracies((1000 * float(components.memory.bases.detach().abs().sum()) % 1,))

    monkeypatch.setattr(commands, "served_accuracy", validate)


def run(folder: Path, data: Path, watch: Monitors, *, resume: bool = False, steps: int = STEPS) -> None:
    wish = request(data, folder / "bars.safetensors", steps=steps)
    commands.distill(replace(wish, resume=resume), watch)


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The next run dies after this step was taken, validated, published and saved, and before it is reported."""

    class Dying(Display):
        def __call__(self, progress: RunState) -> None:
            if progress.step == step:
                monkeypatch.setattr(commands, "Display", Display)
                raise Killed

    monkeypatch.setattr(commands, "Display", Dying)


def without_time(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(path)]


def test_every_outer_step_and_every_validation_has_a_line(bars_folder: Path, tmp_path: Path) -> None:
    run(tmp_path, bars_folder, Monitors(metrics=tmp_path / "m.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    assert [line["step"] for line in lines if "validation" in line] == list(range(STEPS + 1))
    assert all(line["loss"] > 0 and line["gradient_norm"] > 0 for line in steps)
    assert steps[0]["outer_rate"] > steps[-1]["outer_rate"] > 0, "the cosine is there to be seen"
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_monitors_do_not_change_the_memory(bars_folder: Path, tmp_path: Path) -> None:
    tensors = []
    for name, watch in (("alone", Monitors()), ("seen", Monitors(metrics=tmp_path / "m", previews=tmp_path / "p"))):
        wish = request(bars_folder, tmp_path / name / "bars.safetensors", steps=3)
        tensors.append(commands.distill(wish, watch).memory.tensors())
    alone, seen = tensors
    assert all(alone[name].numpy().tobytes() == seen[name].numpy().tobytes() for name in alone)


@pytest.mark.parametrize("deaths", [[1], [2], [3], [4], [5], [2, 3, 5]])
def test_a_killed_and_resumed_run_has_each_line_once(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: list[int]
) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(tmp_path / "whole", bars_folder, Monitors(metrics=whole))
    for number, step in enumerate(deaths):
        die_at(monkeypatch, step)
        with pytest.raises(Killed):
            run(tmp_path / "killed", bars_folder, Monitors(metrics=killed), resume=number > 0)
        with killed.open("a") as file:
            file.write('{"step": 99, "los')  # what a kill leaves of a line
    run(tmp_path / "killed", bars_folder, Monitors(metrics=killed), resume=True)
    assert without_time(killed) == without_time(whole)


def test_metrics_started_at_a_checkpoint_include_earlier_validations(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_at(monkeypatch, 4)
    with pytest.raises(Killed):
        run(tmp_path, bars_folder, Monitors())
    run(tmp_path, bars_folder, Monitors(metrics=tmp_path / "m.jsonl"), resume=True)
    lines = read_metrics(tmp_path / "m.jsonl")
    assert [line["step"] for line in lines if "validation" in line] == list(range(STEPS + 1))
    assert lines[-1]["step"] == STEPS


def test_tensorboard_shows_each_step_once_after_kills(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, step in enumerate([2, 5]):
        die_at(monkeypatch, step)
        with pytest.raises(Killed):
            run(tmp_path, bars_folder, Monitors(tensorboard=tmp_path / "events"), resume=number > 0)
    run(tmp_path, bars_folder, Monitors(tmp_path / "m", tmp_path / "events"), resume=True)
    events = EventAccumulator(str(tmp_path / "events"), purge_orphaned_data=True).Reload()
    assert [event.step for event in events.Scalars("outer/loss")] == list(range(1, STEPS + 1))
    assert [event.step for event in events.Scalars("validation/accuracy")] == list(range(STEPS + 1))
    last = read_metrics(tmp_path / "m")[-1]
    assert events.Scalars("validation/accuracy")[-1].value == pytest.approx(last["validation"])  # a float32


def test_previews_show_the_start_and_every_validation(
    bars_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_at(monkeypatch, 2)
    with pytest.raises(Killed):
        run(tmp_path, bars_folder, Monitors(previews=tmp_path / "previews"))
    run(tmp_path, bars_folder, Monitors(previews=tmp_path / "previews"), resume=True)
    sheets = sorted((tmp_path / "previews").iterdir())
    assert sheets[0].name == "step-000000.png"
    assert sheets[-1].name == f"step-00000{STEPS}.png"
    assert len({sheet.read_bytes() for sheet in sheets}) == len(sheets), "each shows another memory"
    for sheet in sheets:
        Image.open(sheet).load()


def test_monitors_of_an_instant_memory_are_refused(bars_folder: Path, tmp_path: Path) -> None:
    wish = request(bars_folder, tmp_path / "bars.safetensors", "start=principal", steps=0)
    with pytest.raises(ValueError, match="has no steps to monitor; leave --previews out"):
        commands.make(wish, [wish.budget], None, Monitors(previews=tmp_path / "p"))
    assert list(tmp_path.iterdir()) == []


def test_unusable_monitors_are_refused_before_data_are_read(tmp_path: Path) -> None:
    metrics, folder = tmp_path / "m.jsonl", tmp_path / "folder"
    metrics.write_text('{"step": 1}\n')
    folder.mkdir()
    with pytest.raises(ValueError, match=r"m\.jsonl holds the metrics of another run"):
        Monitors(metrics=metrics).checked(resume=False, overwrite=False)
    Monitors(metrics=metrics).checked(resume=False, overwrite=True)
    Monitors(metrics=metrics).checked(resume=True, overwrite=False)
    with pytest.raises(ValueError, match="--metrics must name a file, but folder is a folder"):
        Monitors(metrics=folder).checked(resume=False, overwrite=True)
    with pytest.raises(ValueError, match=r"--previews must name a folder, but m\.jsonl is a file"):
        Monitors(previews=metrics).checked(resume=False, overwrite=True)
    for content in (b"\x89PNG not text\n", b"[1]\n", b'{"loss": 1}\n', b'{"step": "1"}\n'):
        metrics.write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.jsonl holds no metrics of a run"):
            Monitors(metrics=metrics).checked(resume=True, overwrite=False)
        assert metrics.read_bytes() == content


def test_events_of_different_runs_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    with pytest.raises(ValueError, match="holds the events of another run"):
        Monitors(tensorboard=tmp_path).checked(resume=False, overwrite=False)
    Monitors(tensorboard=tmp_path).checked(resume=True, overwrite=False)


def test_without_tensorboard_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="--tensorboard needs the package tensorboard; install it"):
        Monitors(tensorboard=tmp_path / "events").checked(resume=False, overwrite=False)


def test_an_unwritable_metrics_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "m.jsonl", RunState())
    (tmp_path / "m.jsonl").unlink()
    (tmp_path / "m.jsonl").mkdir()
    with pytest.raises(StorageFailed, match=r"m\.jsonl could not be written: Is a directory"):
        metrics(RunState(step=1, loss=0.5))
