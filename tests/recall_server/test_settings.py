"""Settings come from the environment and from flags; the flags win."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from recall_server import __main__ as command
from recall_server import __version__
from recall_server.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RECALL_{name.upper()}", raising=False)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a command was called with."""
    calls: list[Settings] = []
    probe = typer.Typer()
    probe.command("serve")(command.with_settings(calls.append))
    monkeypatch.setattr(command, "cli", probe)
    return calls


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.artifacts) == ("127.0.0.1", 8000, Path("artifacts"))


def test_the_environment_sets_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_PORT", "9000")
    monkeypatch.setenv("RECALL_ARTIFACTS", "/srv/memories")
    monkeypatch.setenv("RECALL_SOMETHING_OF_A_LATER_VERSION", "1")
    assert (Settings().port, Settings().artifacts) == (9000, Path("/srv/memories"))


@pytest.mark.parametrize(("name", "value"), [("port", "70000"), ("device", "tpu"), ("max_pictures", "none")])
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECALL_{name.upper()}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_every_setting_is_a_flag_of_serve_with_a_description(seen: list[Settings]) -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
    values = {
        "host": "0.0.0.0", "port": 1, "artifacts": "a", "state": "s", "device": "cpu", "worker_threads": 3,
        "training_seconds": 1.5, "max_body_bytes": 2048, "max_picture_pixels": 5, "max_pictures": 6, "max_classes": 7,
        "max_recalled_numbers": 8, "max_wait_seconds": 9.5, "shutdown_seconds": 10, "log_level": "debug",
    }  # fmt: skip
    assert set(values) == set(Settings.model_fields)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    result = CliRunner().invoke(command.cli, arguments)
    assert result.exit_code == 0, result.output
    assert seen == [Settings.model_validate(values)]


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default(
    monkeypatch: pytest.MonkeyPatch, seen: list[Settings]
) -> None:
    monkeypatch.setenv("RECALL_PORT", "9000")
    monkeypatch.setenv("RECALL_HOST", "10.0.0.1")
    assert CliRunner().invoke(command.cli, ["--port", "9001"]).exit_code == 0
    assert (seen[0].port, seen[0].host, seen[0].device) == (9001, "10.0.0.1", "auto")


def test_a_bad_value_is_one_line_that_names_flag_and_variable(
    monkeypatch: pytest.MonkeyPatch, seen: list[Settings]
) -> None:
    monkeypatch.setenv("RECALL_DEVICE", "tpu")
    result = CliRunner().invoke(command.cli, [])
    assert result.exit_code == 2
    assert "error: --device (RECALL_DEVICE): Input should be 'auto', 'cpu' or 'cuda'" in result.output
    assert seen == []


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(command.cli, ["--version"]).output.strip() == __version__


def test_doctor_says_what_is_good_and_fails_for_what_is_not(artifacts: Path, tmp_path: Path) -> None:
    arguments = ["doctor", "--device=cpu", f"--state={tmp_path}"]
    good = CliRunner().invoke(command.cli, [*arguments, f"--artifacts={artifacts}"])
    assert good.exit_code == 0, good.output
    assert "ok      bundle columns-images: 1 labels, query encoder on CPUExecutionProvider" in good.output
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "bad.safetensors").write_bytes(b"12345")
    bad = CliRunner().invoke(command.cli, [*arguments, f"--artifacts={tmp_path}"])
    assert bad.exit_code == 1
    assert "PROBLEM file bad.safetensors: bad.safetensors: a file of 5 bytes is too short" in bad.output
    assert "PROBLEM bundles: none could be loaded" in bad.output
