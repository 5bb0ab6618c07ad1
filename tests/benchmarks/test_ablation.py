"""The ablation in its quick form: every cell of both, no cell run twice, and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import ablation
from trainer.methods.paper import MOMENTA


def test_ablation_keeps_its_cells_and_plots_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, picture = tmp_path / "results.json", tmp_path / "ablation.png"
    arguments = ["--quick", "--results", str(results), "--plot", str(picture)]
    ablation.main(arguments)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(figures["table8"]) == set(MOMENTA)
    assert {line: list(curve) for line, curve in figures["figure4"].items()} == dict.fromkeys(MOMENTA, ["1", "5"])
    assert figures["cells"]["no-momentum 1"]["accuracy"] == figures["cells"]["full-momentum 1"]["accuracy"], (
        "one step from rest is the same with momentum and without"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    results.write_text(results.read_text().replace(str(figures["table8"]["forward-only-momentum"]), "0.125"))
    ablation.main(arguments)
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["table8"]["forward-only-momentum"] == 0.125
    with pytest.raises(SystemExit, match=r"results\.json has figures of another run"):
        ablation.main(["--results", str(results)])
