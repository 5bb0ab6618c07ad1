"""Settings come from the environment and from flags; the flags win."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner

from recall_server import __version__
from recall_server.cli import commands
from recall_server.config import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"RECALL_{name.upper()}", raising=False)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a command was called with."""
    calls: list[Settings] = []
    probe = typer.Typer()
    probe.command("serve")(commands.with_settings(calls.append))
    monkeypatch.setattr(commands, "cli", probe)
    return calls


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.artifacts) == ("127.0.0.1", 8000, Path("artifacts"))


def test_the_environment_sets_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_PORT", "9000")
    monkeypatch.setenv("RECALL_ARTIFACTS", "/srv/memories")
    monkeypatch.setenv("RECALL_SOMETHING_OF_A_LATER_VERSION", "1")
    assert (Settings().port, Settings().artifacts) == (9000, Path("/srv/memories"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("device", "tpu"),
        ("max_pictures", "none"),
        ("request_rate", "many"),
        ("work_rate", "5/fortnight"),
        ("api_keys", "admin"),
        ("allow_public", "perhaps"),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECALL_{name.upper()}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_every_setting_is_a_flag_of_serve_with_a_description(seen: list[Settings]) -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
    values = {
        "host": "0.0.0.0", "port": 1, "api_keys": "me:admin:0123456789abcdef", "artifacts": "a", "state": "s",
        "public_key": "p", "database": "sqlite://", "device": "cpu", "workers": 2, "worker_threads": 3,
        "training_seconds": 1.5,
        "training_attempts": 4, "queue_limit": 5, "queue_seconds": 2.5, "lease_seconds": 3.5, "keep_days": 4.5,
        "keep_bytes": 6, "min_free_bytes": 7, "cache_bytes": 8, "request_rate": "9/second", "work_rate": "10/hour",
        "max_body_bytes": 2048, "max_body_seconds": 5.5, "max_picture_pixels": 5, "max_pictures": 6, "max_classes": 7,
        "max_recalled_numbers": 8, "max_wait_seconds": 9.5, "drain_seconds": 10, "log_level": "debug",
        "log_format": "json",
    }  # fmt: skip
    assert {*values, "allow_public"} == set(Settings.model_fields)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    values["allow_public"] = True
    result = CliRunner().invoke(commands.cli, [*arguments, "--allow-public"])
    assert result.exit_code == 0, result.output
    assert seen == [Settings.model_validate(values)]


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default(
    monkeypatch: pytest.MonkeyPatch, seen: list[Settings]
) -> None:
    monkeypatch.setenv("RECALL_PORT", "9000")
    monkeypatch.setenv("RECALL_HOST", "10.0.0.1")
    assert CliRunner().invoke(commands.cli, ["--port", "9001"]).exit_code == 0
    assert (seen[0].port, seen[0].host, seen[0].device) == (9001, "10.0.0.1", "auto")


def test_a_bad_value_is_one_line_that_names_flag_and_variable(
    monkeypatch: pytest.MonkeyPatch, seen: list[Settings]
) -> None:
    monkeypatch.setenv("RECALL_DEVICE", "tpu")
    result = CliRunner().invoke(commands.cli, [])
    assert result.exit_code == 2
    assert "error: --device (RECALL_DEVICE): Input should be 'auto', 'cpu' or 'cuda'" in result.output
    assert seen == []


def test_a_key_is_never_printed(monkeypatch: pytest.MonkeyPatch, seen: list[Settings]) -> None:
    secret = "0123456789abcdef-secret"
    assert secret not in repr(Settings(api_keys=f"me:admin:{secret}"))
    monkeypatch.setenv("RECALL_API_KEYS", f"me:everything:{secret}")
    result = CliRunner().invoke(commands.cli, [])
    assert result.exit_code == 2
    assert (
        "error: --api-keys (RECALL_API_KEYS): Value error, key 1: the scope must be read, train, admin" in result.output
    )
    assert secret not in result.output


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(commands.cli, ["--version"]).output.strip() == __version__


def test_doctor_says_what_is_good_and_fails_for_what_is_not(artifacts: Path, tmp_path: Path) -> None:
    arguments = ["doctor", "--device=cpu", f"--state={tmp_path}"]
    good = CliRunner().invoke(commands.cli, [*arguments, f"--artifacts={artifacts}"])
    assert good.exit_code == 0, good.output
    assert "ok      bundle columns-images: 1 labels, query encoder on CPUExecutionProvider" in good.output
    assert "ok      address: 127.0.0.1, API keys: none" in good.output
    assert "ok      job table: can be written to" in good.output
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "bad.safetensors").write_bytes(b"12345")
    bad = CliRunner().invoke(commands.cli, [*arguments, f"--artifacts={tmp_path}"])
    assert bad.exit_code == 1
    assert "PROBLEM file bad.safetensors: bad.safetensors: a file of 5 bytes is too short" in bad.output
    assert "PROBLEM bundles: none could be loaded" in bad.output


def test_doctor_tells_of_keys_by_name_of_the_lock_and_of_a_table_that_cannot_be_used(
    artifacts: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    assert CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"]).exit_code == 0
    (folder / "bundles" / "places.safetensors").write_bytes(b"12345")
    (tmp_path / "table").touch()
    arguments = [
        "--device=cpu", f"--state={tmp_path}", f"--artifacts={folder}", "--api-keys=boss:admin:0123456789abcdef",
        "--host=0.0.0.0", f"--database=sqlite:///{tmp_path}/table/jobs.sqlite",
    ]  # fmt: skip
    examined = CliRunner().invoke(commands.cli, ["doctor", *arguments])
    assert examined.exit_code == 1
    assert "ok      address: 0.0.0.0, API keys: boss (admin)" in examined.output
    assert "ok      lock: bundles.lock lists 3 bundles" in examined.output
    assert "PROBLEM file places.safetensors" in examined.output
    assert "PROBLEM job table: the folder of the job table cannot be written" in examined.output
    assert "0123456789abcdef" not in examined.output


def test_lock_says_what_it_vouched_for_and_refuses_what_cannot_be_served(artifacts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    locked = CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"])
    assert locked.exit_code == 0, locked.output
    assert [line.split("  ")[1] for line in locked.output.splitlines()] == [
        "columns-images.safetensors", "columns.safetensors", "places.safetensors",
    ]  # fmt: skip
    (folder / "bundles" / "bad.safetensors").write_bytes(b"12345")
    refused = CliRunner().invoke(commands.cli, ["lock", f"--artifacts={folder}"])
    assert (refused.exit_code, "bad.safetensors" in refused.output) == (1, True)
