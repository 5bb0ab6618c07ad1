"""Settings of a Ray cluster that `serve` refuses, each with a sentence that says what would be right."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recall_server.config import Settings, cluster_refusal


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def refusal(address: str = "127.0.0.1:6379") -> str | None:
    return cluster_refusal(Settings(workers="ray", ray_address=address))


def test_a_cluster_of_this_machine_needs_an_address_and_no_token() -> None:
    assert refusal() is None
    assert refusal("localhost:6379") is None
    assert refusal("[::1]:6379") is None
    assert cluster_refusal(Settings()) is None


@pytest.mark.parametrize(
    "address",
    ["", "auto", "local", "ray://10.0.0.5:10001", "http://10.0.0.5:8265", "10.0.0.5", "a:0", "a:70000"],
)
def test_what_is_no_address_of_a_running_cluster_is_refused(address: str) -> None:
    said = refusal(address)
    assert said is not None
    assert said.startswith(f"--ray-address {address} is not" if address else "no --ray-address")
    assert "write HOST:PORT of its head, such as 10.0.0.5:6379" in said


def test_other_machines_are_used_with_a_token_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refusal("10.0.0.5:6379")
    assert said is not None
    assert "set RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN here" in said
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert refusal("10.0.0.5:6379") == said
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert refusal("10.0.0.5:6379") is None
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert refusal("10.0.0.5:6379") is None
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "gone"))
    assert refusal("10.0.0.5:6379") == said


@pytest.mark.parametrize("version", ["2.51.1", "2.61.0", "3.0.0"])
def test_a_version_outside_the_window_is_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    assert refusal() == (
        f"Ray {version} is installed, and 2.52 to 2.60 are supported: pip install 'memory-recall[ray]'"
    )


def test_a_server_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert refusal() == "--ray-address needs Ray, which is not installed: pip install 'memory-recall[ray]'"


@pytest.mark.parametrize(
    "invalid", [{"workers": "dask"}, {"workers": "-1"}, {"ray_cpus": 0}, {"ray_gpus": -1}, {"ray_workers": 0}]
)
def test_impossible_numbers_are_refused(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**invalid)


def test_workers_are_a_number_or_ray() -> None:
    assert Settings(workers="3").workers == 3
    assert Settings(workers="ray").workers == "ray"


@pytest.mark.process
def test_neither_the_server_nor_the_trainer_imports_ray_unasked() -> None:
    program = """
import sys
sys.modules["ray"] = None  # importing it raises ImportError
import recall_server.cli.commands, recall_server.jobs.workers.loading, trainer.cli.app
from recall_server.config import Settings
from recall_server.service.from_settings import backend_of
backend_of(Settings(workers="ray", ray_address="127.0.0.1:6379"))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
