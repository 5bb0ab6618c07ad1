"""The benchmark of the unroll's memory ends in one line of JSON, with a row for each length and side."""

from __future__ import annotations

import json

import pytest

from benchmarks import unroll_memory


@pytest.mark.process
def test_each_length_lists_stored_and_other_memory(capsys: pytest.CaptureFixture[str]) -> None:
    unroll_memory.main(
        ["--lengths", "2", "4", "--naive-lengths", "2", "--filters", "8", "--batch", "4", "--threads", "1"]
    )
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["mebibytes"]
    assert [(row["side"], row["steps"]) for row in rows] == [("ours", 2), ("ours", 4), ("naive", 2)]
    assert rows[1]["images"] == pytest.approx(2 * rows[0]["images"], abs=0.1), "twice as many steps, twice the images"
    for row in rows[:2]:
        assert row["beside"] == pytest.approx(row["peak"] - row["weights"] - row["images"], abs=0.2)
        assert row["peak"] > 0
