"""The command `stream`: learns a folder of tasks, publishes bundles, stops, resumes, and refuses bad input."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidDataset, InvalidRequest
from tests.trainer.streams.stream_examples import SMALL, write_task
from trainer.cli.streams import stream

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(stream)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    for number in range(2):
        write_task(tmp_path / "tasks" / f"task-{number}", seed=number)
    return tmp_path / "tasks"


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), *(part for item in SMALL for part in ("--set", item))])
    if result.exception:
        raise result.exception
    return result.output


def test_a_folder_of_tasks_is_learned_published_and_plotted(tasks: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    output = call(tasks, "--memory", 12, "--bundles", tmp_path / "bundles", "--baselines", "--picture", picture)
    assert "task 2 of 2: recall " in output
    assert "experience replay" in output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_stream_resumes_from_its_checkpoint(tasks: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.checkpoint"
    first = call(tasks, "--memory", 12, "--bundles", tmp_path / "bundles", "--checkpoint", file)
    again = call(tasks, "--memory", 12, "--bundles", tmp_path / "bundles", "--checkpoint", file, "--resume")
    assert again.splitlines() == first.splitlines()[2:]  # the table, and no task anew
    assert MemoryBundle.load(tmp_path / "bundles" / "task-1.safetensors").labels == ("top", "middle", "bottom")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --checkpoint"),
        (["--samples", 3], "--samples is for named streams"),
        (["--memory", 2], "the smallest that works has"),
        (["--method", "magic"], "unknown method 'magic'"),
    ],
)
def test_invalid_options_are_refused_before_learning(tasks: Path, arguments: list[object], message: str) -> None:
    with pytest.raises((ValueError, InvalidDataset), match=message):
        call(tasks, *arguments)


def test_a_named_stream_is_not_followed() -> None:
    with pytest.raises(InvalidDataset, match="are for folders of tasks"):
        call("rotations", "--follow")


def test_a_missing_gpu_is_refused_at_once(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidRequest, match="no CUDA device is available; use --device auto or cpu"):
        call(tasks, "--memory", 12, "--device", "cuda")
