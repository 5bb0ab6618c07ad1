"""Accuracy against the minutes of a run, in its quick form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import accuracy_over_time
from benchmarks.accuracy_over_time import Version, at_marks, read_versions
from recall_server.core.bundle.bundle import MemoryBundle

BUNDLES = Path("artifacts/bundles")


@pytest.mark.process
def test_versions_of_a_run_are_kept_and_measured_again_without_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--versions", str(tmp_path / "versions"), "--plot", str(tmp_path / "curve.png")]
    accuracy_over_time.main(arguments)
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = {path: path.read_bytes() for path in (tmp_path / "versions").iterdir()}
    assert len(kept) > 1
    assert [point["minutes"] for point in first["curve"]] == sorted(point["minutes"] for point in first["curve"])
    assert first["curve"][-1]["outer_steps"] > first["curve"][0]["outer_steps"] == 0
    assert (tmp_path / "curve.png").stat().st_size > 0
    accuracy_over_time.main(arguments)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first
    assert {path: path.read_bytes() for path in (tmp_path / "versions").iterdir()} == kept


def test_versions_are_measured_after_halving_fractions_of_the_run() -> None:
    bundle = MemoryBundle.load(BUNDLES / "digits.safetensors")
    versions = [Version(minutes, bundle) for minutes in (0.0, 0.9, 1.1, 3.0, 7.0, 8.0, 16.0)]
    assert [each.minutes for each in at_marks(versions)] == [0.0, 0.9, 1.1, 3.0, 8.0, 16.0]


def test_a_bundle_without_progress_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "old.safetensors").write_bytes((BUNDLES / "digits.safetensors").read_bytes())
    with pytest.raises(SystemExit, match=r"old.safetensors has no record of its run"):
        read_versions(tmp_path)


@pytest.mark.process
def test_a_run_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="recall-trainer distill ended with 2"):
        accuracy_over_time.main(["--quick", "--versions", str(tmp_path / "versions"), "--", "--bases", "none"])
