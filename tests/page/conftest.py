"""The page in a real browser, served by a real server with committed bundles and with small ones that train at once."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import MeasuredAccuracy
from recall_server.core.encoders.query_novelty import NoveltyScorer
from recall_server.core.training.retraining import Retraining
from recall_server.library.aliases import ALIASES_FILE
from tests.recall_server.bundle_examples import example_manifest, example_memory, example_preprocessing
from tests.recall_server.serving_examples import RETRAINING, column_encoder, image_bundle, label_bundle, picture, png
from tests.suite.needs import CHROMIUM, needs_chromium

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
PATIENCE = 60_000  # milliseconds that a busy machine may take for anything
LABELS = ("left / links", "<b>middle</b>", "右 derecha")

OpenPage = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(needs_chromium)


@pytest.fixture(scope="module")  # not `session`: its event loop would go on running during the tests of other folders
def browser() -> Iterator[Any]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve(write_memories(tmp_path_factory.mktemp("memories")))


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[OpenPage]:
    """open_page() opens the page and waits until its memories are shown. `more` goes to the browser's context.

    A test fails when the page raises an error, sends a request to another host, or logs an error to its console. With
    `trouble`, errors in the console are allowed.
    """
    contexts: list[Any] = []
    faults: list[str] = []

    def open_page(*, at: str = address, path: str = "/", trouble: bool = False, shown: bool = True, **more: Any) -> Any:
        context = browser.new_context(**more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if _complains(message) and not trouble else None)
        page.on("request", lambda request: None if is_own(request.url, at) else faults.append(request.url))
        page.goto(at + path)
        if shown:
            page.locator("#cards .face img").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def page(open_page: OpenPage) -> Any:
    return open_page()


def is_own(url: str, address: str) -> bool:
    """Return whether a request goes to the server that the page came from."""
    return url.startswith((f"{address}/", "data:", f"blob:{address}/"))


def _complains(message: Any) -> bool:
    return bool(message.type == "error")


def file(label: str, seed: int) -> dict[str, Any]:
    """Return a small picture of left, middle or right in the form that Playwright uploads."""
    return {"name": f"{label} {seed}.png", "mimeType": "image/png", "buffer": png(picture(label, seed))}


def photograph(*, side: int) -> bytes:
    """Return a JPEG of noise, which compresses badly."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


def give_pictures(page: Any, *classes: tuple[str, str], seeds: range = range(5)) -> None:
    """Fill the first cards with these names and pictures of left, middle or right."""
    for box, (name, label) in zip(page.locator("#boxes .box").all(), classes, strict=True):
        box.locator("input[type=text]").fill(name)
        box.locator("input[accept]").set_input_files([file(label, seed) for seed in seeds])


def drop(page: Any, box: Any, *paths: Path) -> None:
    """Let files and folders of the disk fall into a box, as the browser gets them from a file manager."""
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": place["x"] + 8, "y": place["y"] + 8, "data": data}
        session.send("Input.dispatchDragEvent", event)


def name_classes(page: Any, *names: str) -> None:
    """Type these names into the cards, and add cards until there are enough."""
    for index, name in enumerate(names):
        if page.locator("#boxes .box").count() <= index:
            page.click("#add-box")
        page.locator("#boxes input[type=text]").nth(index).fill(name)


def choose_way(page: Any, way: str = "auto", memory: str | None = None) -> None:
    """Choose how pictures are used, and the memory."""
    page.evaluate("ways.open = true")
    page.check(f"input[name=way][value={way}]")
    if memory is not None:
        page.select_option("#way-memory", memory)


def look_inside(page: Any, name: str) -> None:
    """Press the button on the card of this memory."""
    page.get_by_role("button", name=f"Look inside {name}", exact=True).click()
    page.locator("#inside-title", has_text=f"Inside {name}").wait_for()


def write_memories(folder: Path) -> Path:
    """Write two committed memories, the small ones `marks` and `marks-images`, and some for what goes wrong.

    `more` and `endless` both have the label "other". `marks-images` has seen the left and the right column, not the
    middle one.
    """
    bundles, encoder = folder / "bundles", column_encoder()
    bundles.mkdir(parents=True)
    (folder / "encoders").mkdir()
    (folder / "encoders" / "columns.onnx").write_bytes(encoder)
    familiar = NoveltyScorer(centres=torch.eye(3)[[0, 2]], distances=torch.linspace(0, 1, 100))
    familiar.save(folder / "encoders" / "columns.onnx", hashlib.sha256(encoder).hexdigest())
    (folder / ALIASES_FILE).write_text(json.dumps({"ends": ["more:top", LABELS[2]]}))
    for name in ("fashion-mnist", "digits"):
        shutil.copy(ARTIFACTS / "bundles" / f"{name}.safetensors", bundles)
    endless = Retraining(network=RETRAINING.network, steps=100_000, learning_rate=0.01, rows_per_class=1)
    for bundle in (
        _measured(label_bundle("marks", LABELS)),
        label_bundle("endless", ("this", "that", "other"), retraining=endless),
        label_bundle("more", ("top", "bottom", "other"), groups={"edges": ("top", "bottom")}),
        image_bundle("marks-images", encoder),
        _retrained(image_bundle("slow", encoder), endless),
        _many_names(),
    ):
        bundle.save(bundles / f"{bundle.manifest.name}.safetensors")
    return folder


def _retrained(bundle: MemoryBundle, retraining: Retraining) -> MemoryBundle:
    """Return the bundle with another retraining schedule."""
    manifest = bundle.manifest.model_copy(update={"retraining": retraining})
    return MemoryBundle(manifest=manifest, memory=bundle.memory, preprocessing=bundle.preprocessing)


def _measured(bundle: MemoryBundle) -> MemoryBundle:
    """Return the bundle with the result of one evaluation on 100 pictures of each label."""
    accuracy = MeasuredAccuracy(
        network=str(bundle.manifest.retraining.network),
        protocol="bundle",
        runs=1,
        mean=0.8,
        spread=0.0,
        data="drawn columns, 300 pictures",
        confusions=((90, 10, 0), (20, 60, 20), (0, 10, 90)),
    )
    manifest = bundle.manifest.model_copy(update={"accuracy": (accuracy,)})
    return MemoryBundle(manifest=manifest, memory=bundle.memory, preprocessing=bundle.preprocessing)


def _many_names() -> MemoryBundle:
    memory, preprocessing = example_memory(labels=60, rows=1), example_preprocessing()
    labels = tuple(f"sort {index}" for index in range(60))
    manifest = example_manifest(memory, preprocessing, name="many", labels=labels)
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)
