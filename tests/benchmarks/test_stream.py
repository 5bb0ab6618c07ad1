"""The benchmark of streams runs everything side by side, keeps what it measured, and ends in one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stream import main


def test_quick_compares_all_learners_and_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--quick",
        "--set",
        "replays=1",
        "--set",
        "steps=8",
        "--set",
        "window=4",
        "--results",
        str(tmp_path / "r.json"),
    ]
    main(arguments)
    first = capsys.readouterr().out.splitlines()
    found = json.loads(first[-1])["streams"]["digits-rotations"]
    assert set(found["learners"]) == {"recall", "online SGD", "experience replay", "real images", "joint"}
    assert all(0 < row["retained_accuracy"] <= 1 for row in found["learners"].values())
    assert found["tasks_per_minute"] > 0
    assert found["buffer_numbers"] <= 30 * 64
    main(arguments)
    again = capsys.readouterr().out.splitlines()
    assert json.loads(again[-1])["streams"] == json.loads(first[-1])["streams"]
    assert not any(line.startswith("  task") for line in again)  # what was measured is not measured again
