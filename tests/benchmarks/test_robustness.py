"""The benchmark of robustness, in its quick form: both memories, real pictures and stronger attacks in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import robustness


def test_both_memories_are_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robustness.main(["--quick", "--folder", str(tmp_path)])
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name in ("ordinary", "robust", "random_real"):
        assert first[name]["attacked"]["mean"] <= first[name]["clean"]["mean"] <= 100
    assert first["robust"]["numbers"] == first["ordinary"]["numbers"]
    assert first["by_epsilon"]["0.4"] <= first["by_epsilon"]["0.05"]
    assert {file.name for file in tmp_path.iterdir()} == {"ordinary.safetensors", "robust.safetensors"}
