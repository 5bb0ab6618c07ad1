"""A server for the documentation, with artifacts that a page may add to, and the files that each page starts with."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.pictures import from_bytes, to_bytes
from tests.docs.loaded_trainer import REAL, loaded_trainer
from tests.docs.pages import ROOT, executed
from tests.docs.runner import PATIENT_WAIT, WRITTEN_URL, environment, needs_server, run_page

CLASSES = ("Sneaker", "Bag")
NUMERALS = {3: "three", 8: "eight"}
PICTURES = 12  # of each class
PATIENCE = 20.0


@dataclass(frozen=True)
class Served:
    """A running server and the artifacts that it serves."""

    url: str
    artifacts: Path

    def restore(self, original: Path) -> None:
        """Remove what a page added, and wait until the server has noticed."""
        kept = {path.relative_to(original) for path in original.rglob("*")}
        for path in self.artifacts.rglob("*"):
            if path.is_file() and path.relative_to(self.artifacts) not in kept:
                path.unlink()
        bundles = {path.stem for path in kept if path.suffix == ".safetensors"}
        limit = time.monotonic() + PATIENCE
        while {bundle["name"] for bundle in httpx2.get(f"{self.url}/bundles").json()["bundles"]} != bundles:
            assert time.monotonic() < limit
            time.sleep(0.1)


@pytest.fixture(scope="session")
def served(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Served:
    artifacts = tmp_path_factory.mktemp("served") / "artifacts"
    shutil.copytree(ROOT / "artifacts", artifacts)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RECALL_MAX_WAIT_SECONDS", PATIENT_WAIT.removeprefix("wait="))
        served = Served(serve(artifacts), artifacts)
    # Starts the longest training of all pages. Identical requests share one job, so that the page finds it finished.
    httpx2.post(f"{served.url}/classifier", json={"labels": CLASSES}).raise_for_status()
    return served


@pytest.fixture(scope="session")
def venv() -> Iterator[Path]:
    """The virtual environment of every page but command-line.md, which starts the real `recall-trainer`."""
    with loaded_trainer(environment()) as folder:
        yield folder


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the pictures that each page starts with (CONTRIBUTING.md describes them)."""
    folder = tmp_path_factory.mktemp("material")
    pictures = dict(zip(CLASSES, map(_pictures_of, CLASSES), strict=True))
    from_bytes(pictures["Bag"][-1]).save(folder / "photo.png")
    for number, picture in enumerate([*pictures["Sneaker"][:3], *pictures["Bag"][:3]], start=1):
        _photo(picture).save(folder / f"{number}.jpg")
    for name, label in (("mine", "Sneaker"), ("yours", "Bag")):
        (folder / "shots" / name).mkdir(parents=True)
        for number, picture in enumerate(pictures[label][:5], start=1):
            _photo(picture).save(folder / "shots" / name / f"{number}.jpg")
    digits = load_digits()
    for digit, name in NUMERALS.items():
        (folder / "folder" / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == digit][:60]):
            picture = Image.fromarray((image * 255 / 16).astype(np.uint8))
            picture.resize((24, 24)).save(folder / "folder" / name / f"{number}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path, served: Served, material: Path, venv: Path, page: Path) -> Iterator[Path]:
    """Yield a folder for one page, with the artifacts that the server serves."""
    _furnish(tmp_path, material, REAL if page.name == "command-line.md" else venv)
    (tmp_path / "artifacts").symlink_to(served.artifacts)
    yield tmp_path
    served.restore(ROOT / "artifacts")


@pytest.fixture(scope="session")
def alone(
    request: pytest.FixtureRequest, material: Path, venv: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[None]]]:
    """Run the selected pages that need no server in the background, one after another, while others are tested."""
    asked = [item.callspec.params.get("page") for item in request.session.items if hasattr(item, "callspec")]
    with ThreadPoolExecutor(max_workers=1) as background:
        yield {
            page: background.submit(_run_alone, page, tmp_path_factory.mktemp("alone"), material, venv)
            for page in executed()
            if page in asked and not needs_server(page)
        }


def _run_alone(page: Path, folder: Path, material: Path, venv: Path) -> None:
    _furnish(folder, material, venv)
    shutil.copytree(ROOT / "artifacts", folder / "artifacts")
    run_page(page, folder, WRITTEN_URL)


def _furnish(folder: Path, material: Path, venv: Path) -> None:
    shutil.copytree(material, folder, dirs_exist_ok=True)
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / ".venv").symlink_to(venv)


def _photo(picture: NDArray[np.uint8]) -> Image.Image:
    """Return the picture as a camera might deliver it: larger, in colour, and not quite square."""
    return from_bytes(picture).convert("RGB").resize((160, 150), Image.Resampling.BICUBIC)


def _pictures_of(label: str) -> NDArray[np.uint8]:
    """Return uint8 [PICTURES, 1, 28, 28]: real pictures if RECALL_DATA has them, recalled ones otherwise."""
    archive = Path(os.environ.get("RECALL_DATA", ""), "fashion-mnist", "test.npz")
    if archive.is_file():
        with np.load(archive) as test:
            wanted = test["labels"] == list(test["classes"]).index(label)
            images: NDArray[np.uint8] = test["images"][wanted][:PICTURES].reshape(-1, 1, 28, 28)
            return images
    bundle = MemoryBundle.load(ROOT / "artifacts/bundles/fashion-mnist.safetensors")
    with torch.no_grad():
        recalled = bundle.recall_pixels(bundle.label_queries([label]))[0]
    return to_bytes(recalled.numpy())[:PICTURES]
