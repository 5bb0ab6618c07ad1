"""Pages that are made from data say what the data say now, and data of strangers cannot change their form."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from recall_server.config.settings import Settings
from recall_server.core.bundle.bundle import MemoryBundle
from tests.docs.pages import DOCS, ROOT


def program(path: Path) -> ModuleType:
    """A program of docs/, which is no package's module."""
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


def test_every_bundle_and_every_measurement_is_among_the_results(generate: ModuleType) -> None:
    bundles = [MemoryBundle.load(path) for path in sorted((ROOT / "artifacts/bundles").glob("*.safetensors"))]
    text = generate.results(bundles)
    for bundle in bundles:
        section = text.split(f"## {bundle.manifest.name}\n")[1].split("\n## ")[0]
        assert bundle.sha256 in section
        assert all(f"| {100 * row.mean:.2f} | {100 * row.spread:.2f} |" in section for row in bundle.manifest.accuracy)


def test_every_setting_is_listed_with_its_default(generate: ModuleType) -> None:
    text = generate.settings()
    assert all(f"| `RECALL_{name.upper()}` |" in text for name in Settings.model_fields)
    assert "| `RECALL_PORT` | `--port` | `8000` |" in text


def test_the_text_of_a_manifest_is_no_markup(generate: ModuleType) -> None:
    assert generate.cell("a|b *c* [d](e) <f>\n`g`") == r"a\|b \*c\* \[d\](e) \<f\> \`g\`"
    assert generate.table(["a"], [["b"], ["c"]]) == "| a |\n| --- |\n| b |\n| c |\n"


def test_the_pictures_of_a_memory_show_the_committed_bundle() -> None:
    pictures = program(DOCS / "pictures/memory.py")
    for name, rows in pictures.sheets(MemoryBundle.load(pictures.BUNDLE)).items():
        drawn = np.asarray(Image.open(io.BytesIO(pictures.contact_sheet(rows))), dtype=np.int16)
        committed = np.asarray(Image.open(DOCS / "pictures" / f"{name}.png"), dtype=np.int16)
        assert drawn.shape == committed.shape, name
        assert np.abs(drawn - committed).max() <= 2, f"{name}.png is of another bundle: run docs/pictures/memory.py"
