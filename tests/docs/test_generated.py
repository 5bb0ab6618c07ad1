"""Generated pages are up to date, and text from a manifest cannot change their markup."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benchmarks import results
from recall_server.config.settings import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from tests.docs.pages import DOCS, ROOT


def program(path: Path) -> ModuleType:
    """Import a program of docs/, which is not a package."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return program(DOCS / "generate.py")


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    stale = [path.name for path, text in generate.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `python docs/generate.py`"


def test_every_bundle_and_its_accuracies_are_on_the_page_of_bundles(generate: ModuleType) -> None:
    bundles = [MemoryBundle.load(path) for path in sorted((ROOT / "artifacts/bundles").glob("*.safetensors"))]
    text = generate.committed_bundles(bundles)
    for bundle in bundles:
        section = text.split(f"## {bundle.manifest.name}\n")[1].split("\n## ")[0]
        assert bundle.sha256 in section
        assert all(f"| {100 * row.mean:.2f} | {100 * row.spread:.2f} |" in section for row in bundle.manifest.accuracy)


def test_every_recorded_measurement_is_a_row_of_a_group_that_states_its_space(generate: ModuleType) -> None:
    rows = results.read()
    text = generate.measurements(rows)
    for row in rows:
        group = results.GROUPS[row.group]
        section = text.split(f"## {group.title}\n")[1].split("\n## ")[0]
        assert f"| {row.what} | {row.measured} | {row.baseline} |" in section
        assert generate.SPACES[group.space] in section


def test_the_figures_of_the_readme_are_recorded(generate: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = [line for line in readme.split("\n## Results\n")[1].split("\n## ")[0].splitlines() if line[:2] == "| "]
    figure = re.compile(r"\d[\d.,]*\d")
    recorded = set(figure.findall((DOCS / "results.md").read_text(encoding="utf-8")))
    for line in table[2:]:
        _, measured, baseline, *_ = line.strip("| ").split(" | ")
        assert set(figure.findall(f"{measured} {baseline}")) <= recorded, line
    assert 0 < len(table) - 2 <= 10


def test_every_setting_is_listed_with_its_default(generate: ModuleType) -> None:
    text = generate.settings()
    assert all(f"| `RECALL_{name.upper()}` |" in text for name in Settings.model_fields)
    assert "| `RECALL_PORT` | `--port` | `8000` |" in text


def test_text_of_a_manifest_is_escaped(generate: ModuleType) -> None:
    assert generate.cell("a|b *c* [d](e) <f>\n`g`") == r"a\|b \*c\* \[d\](e) \<f\> \`g\`"
    assert generate.table(["a"], [["b"], ["c"]]) == "| a |\n| --- |\n| b |\n| c |\n"


def test_the_pictures_of_a_memory_show_the_committed_bundle() -> None:
    pictures = program(DOCS / "pictures/memory.py")
    for name, rows in pictures.sheets(MemoryBundle.load(pictures.BUNDLE)).items():
        drawn = np.asarray(Image.open(io.BytesIO(pictures.contact_sheet(rows))), dtype=np.int16)
        committed = np.asarray(Image.open(DOCS / "pictures" / f"{name}.png"), dtype=np.int16)
        assert drawn.shape == committed.shape, name
        assert np.abs(drawn - committed).max() <= 2, f"{name}.png is of another bundle: run docs/pictures/memory.py"
