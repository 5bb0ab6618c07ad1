"""The command `record-experts`: it goes on with what is there, and distill takes its folder or refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainer.cli.app import app

NETWORK = ["--set", "objective.network=convnet:filters=4,depth=2"]
FEW = [
    *NETWORK, "--set", "objective.experts.count=2", "--set", "objective.experts.epochs=2",
    "--set", "objective.experts.items=20", "--set", "preprocessing=standardise",
]  # fmt: skip
SHORT = ["--set", "objective.latest_start=1", "--set", "objective.expert_epochs=2", "--set", "objective.steps=2"]
SHORT += ["--set", "retraining.steps=2", "--outer-steps", "1"]


def run(*arguments: object) -> str:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False).output


def record(folder: Path, output: Path, *arguments: object) -> str:
    return run("record-experts", "--dataset", folder, "--output", output, *FEW, *arguments)


def distill(folder: Path, experts: Path, output: Path, *arguments: object) -> str:
    told = ["--set", f"objective.experts.folder={experts}", "--method", "mtt-small", "--output", output]
    return run("distill", "--dataset", folder, *FEW, *SHORT, *told, *arguments)


def test_experts_are_recorded_once_and_used_by_name(bars_folder: Path, tmp_path: Path) -> None:
    experts = tmp_path / "experts"
    first = record(bars_folder, experts)
    assert first.splitlines()[:2] == ["expert 1 of 2: 1 of 2", "expert 1 of 2: 2 of 2"]
    assert first.splitlines()[-1] == f"{experts}: 2 experts of 2 epochs"
    assert record(bars_folder, experts).splitlines() == first.splitlines()[-1:]
    assert "bars.safetensors" in distill(bars_folder, experts, tmp_path / "bars.safetensors")


def test_experts_of_another_network_or_data_set_are_refused(bars_folder: Path, tmp_path: Path) -> None:
    experts = tmp_path / "experts"
    record(bars_folder, experts)
    with pytest.raises(ValueError, match="of the network convnet:filters=4,depth=2, not convnet:filters=8,depth=2"):
        distill(
            bars_folder, experts, tmp_path / "a.safetensors", "--set", "objective.network=convnet:filters=8,depth=2"
        )
    with pytest.raises(ValueError, match="experts are of the data set .*, not digits"):
        distill(Path("digits"), experts, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="there are no experts in"):
        distill(bars_folder, tmp_path / "nowhere", tmp_path / "c.safetensors")


def test_a_method_without_trajectories_has_no_experts(bars_folder: Path) -> None:
    with pytest.raises(ValueError, match="the method window matches no trajectories"):
        run("record-experts", "--dataset", bars_folder, "--method", "window")
