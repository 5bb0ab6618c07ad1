"""A recorded measurement keeps what it takes to repeat it, and recording it again replaces it."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import results

FIGURES = {"seconds": {"by_hand": 0.4217, "autograd": 1.139}, "device": "a machine"}


def recorded(**changes: str) -> results.Measurement:
    row = {"group": "speed", "what": "one step", "measured": "{seconds[by_hand]:.2f} s"} | changes
    return results.measurement(["step", "--threads", "2"], FIGURES, **row)  # type: ignore[arg-type]


def test_a_row_has_command_device_date_and_figures() -> None:
    row = recorded(baseline="{seconds[autograd]:.2f} s by autograd")
    assert (row.measured, row.baseline) == ("0.42 s", "1.14 s by autograd")
    assert row.command == "python -m benchmarks.step --threads 2"
    assert (row.device, row.date, row.figures) == ("a machine", datetime.now(UTC).date(), FIGURES)


def test_a_template_that_names_no_figure_is_an_error() -> None:
    with pytest.raises(KeyError, match="minutes"):
        recorded(measured="{minutes}")


def test_the_last_line_of_a_benchmark_is_its_figures() -> None:
    assert results.last_document('step 1\n{"a": 1}\n\n') == {"a": 1}
    for output in ("", "seconds: 3\n", "3\n"):
        with pytest.raises(ValueError, match="is a JSON object"):
            results.last_document(output)


def test_a_row_of_the_same_title_is_replaced_in_its_place() -> None:
    first, second, again = recorded(), recorded(what="two steps"), recorded(measured="1 s")
    assert results.with_row([first, second], again) == [again, second]
    assert results.with_row([first], second) == [first, second]


def test_rows_are_equal_when_read_back(tmp_path: Path) -> None:
    rows = [recorded(), recorded(what="two steps")]
    results.write(rows, tmp_path / "results.jsonl")
    assert results.read(tmp_path / "results.jsonl") == rows


def test_one_run_records_several_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, two = tmp_path / "results.jsonl", ["--what", "a", "--measured", "{x}", "--what", "b", "--measured", "{y}"]
    file.touch()
    ran = subprocess.CompletedProcess([], 0, stdout='{"x": 1, "y": 2}\n')
    monkeypatch.setattr(results.subprocess, "run", lambda *_, **__: ran)
    results.main(["--record", "speed", "--file", str(file), *two, "--", "step"])
    assert [(row.what, row.measured, row.figures) for row in results.read(file)] == [
        ("a", "1", {"x": 1, "y": 2}),
        ("b", "2", {"x": 1, "y": 2}),
    ]
    with pytest.raises(SystemExit):
        results.main(["--record", "speed", "--file", str(file), *two, "--baseline", "{x}", "--", "step"])


def test_an_unknown_group_is_named(tmp_path: Path) -> None:
    results.write([recorded(group="nonsense")], tmp_path / "results.jsonl")
    with pytest.raises(ValueError, match="unknown groups nonsense"):
        results.read(tmp_path / "results.jsonl")


def test_the_committed_file_has_the_format_that_this_code_writes(tmp_path: Path) -> None:
    results.write(results.read(), tmp_path / "results.jsonl")
    assert (tmp_path / "results.jsonl").read_bytes() == results.RESULTS.read_bytes()
