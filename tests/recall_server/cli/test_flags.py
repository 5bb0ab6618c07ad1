"""Every setting is a flag, and flags win over the environment."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from recall_server import __version__
from recall_server.cli import commands
from recall_server.config import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a command was called with."""
    calls: list[Settings] = []
    probe = typer.Typer()
    probe.command("serve")(commands.with_settings(calls.append))
    monkeypatch.setattr(commands, "cli", probe)
    return calls


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
        "log_format": "json", "trusted_proxies": "10.0.0.7", "max_request_pixels": 11, "root_path": "/a",
        "ray_address": "10.0.0.8:1", "ray_workers": 12, "ray_cpus": 6.5, "ray_gpus": 0.5, "ray_seconds": 7.5,
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
