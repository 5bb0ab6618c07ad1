"""The benchmark of streams runs everything side by side, keeps what it measured, and ends in one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.stream import Row, main
from benchmarks.stream_parts import Job

SMALL = [
    "--quick",
    "--no-joint",
    "--set=outer.steps=1",
    "--set=objective.steps=8",
    "--set=objective.window=4",
    "--set=stream.reuse=false",
]


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_quick_compares_all_learners_and_ends_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--quick",
        "--set",
        "outer.steps=1",
        "--set",
        "objective.steps=8",
        "--set",
        "objective.window=4",
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


@pytest.mark.process
def test_two_processes_get_the_scores_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL])
    one = figures(capsys)["streams"]["digits-rotations"]
    file = tmp_path / "r.json"
    main([*SMALL, "--processes", "2", "--results", str(file)])
    two = figures(capsys)["streams"]["digits-rotations"]
    assert two["learners"] == one["learners"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["buffer_numbers"] == one["buffer_numbers"]

    kept = json.loads(file.read_text())
    assert len(kept["cells"]) == 4  # three tasks and the baselines
    del kept["cells"][next(key for key in kept["cells"] if key.endswith("recall 1"))]
    file.write_text(json.dumps(kept))
    main([*SMALL, "--results", str(file), "--minutes", "0"])
    found = figures(capsys)
    assert found["streams"] == {}
    (row,) = found["unfinished"].values()
    assert (row["tasks"], row["of"]) == (2, 3)


def test_a_run_that_is_out_of_time_resumes_from_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(SMALL)
    expected = figures(capsys)["streams"]["digits-rotations"]["learners"]
    looks = 0

    def stopped(job: Job) -> bool:
        nonlocal looks
        looks += 1
        return looks > 40

    state = tmp_path / "state"
    with monkeypatch.context() as patched:
        patched.setattr(Job, "stopped", stopped)
        main([*SMALL, "--state", str(state)])
        found = figures(capsys)
        assert found["streams"] == {}
        assert [row["tasks"] for row in found["unfinished"].values()] == [0]
    assert len(list(state.iterdir())) == 1
    main([*SMALL, "--state", str(state), "--results", str(tmp_path / "r.json")])
    assert figures(capsys)["streams"]["digits-rotations"]["learners"] == expected
    assert list(state.iterdir()) == []


def test_figures_of_other_settings_are_not_reused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.json"
    main([*SMALL, "--results", str(file)])
    main([*SMALL, "--set=outer.rate=0.03", "--no-baselines", "--results", str(file)])
    assert len(json.loads(file.read_text())) == 2


@pytest.mark.parametrize("row", ["spirals", "paper", "paper:rotations:0", "rotations:2:3", "rotations:many"])
def test_a_malformed_row_is_refused(row: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--stream", row])
    assert "error" in capsys.readouterr().err


def test_a_row_names_its_own_method_and_seeds() -> None:
    assert Row.parse("paper:many:3", "window", 5) == Row("many", "paper", 3)
    assert Row.parse("rotations", "window", 5) == Row("rotations", "window", 5)


def test_zero_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*SMALL, "--processes", "0"])
    assert "must be 1 or more" in capsys.readouterr().err
