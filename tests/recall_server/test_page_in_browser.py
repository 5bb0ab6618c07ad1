"""The page in a real browser, over a real server with the committed bundles: what a person would do, and see.

Runs where Debian's Chromium is installed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
CHROMIUM = Path("/usr/bin/chromium")
TRAINING = 120_000  # milliseconds until a training on a busy machine must have ended

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(serve: Callable[[Path], str]) -> str:
    return serve(ARTIFACTS)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page with its memories shown. Fails for an error in its console, or a request to anywhere else."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if _own(request.url, address) else faults.append(request.url))
    page.goto(address)
    page.wait_for_selector("#recalled img")
    yield page
    context.close()
    assert not faults


def _own(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", "data:", f"blob:{address}/"))


def _picture(seed: int, *, bright: bool) -> dict[str, Any]:
    """A noisy picture, bright above or bright below, as a file that a browser can be handed."""
    pixels = np.random.default_rng(seed).integers(0, 60, (28, 28), dtype=np.uint8)
    pixels[:14] += 180 if bright else 0
    pixels[14:] += 0 if bright else 180
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return {"name": f"{'above' if bright else 'below'}-{seed}.png", "mimeType": "image/png", "buffer": data.getvalue()}


def test_the_memories_are_shown_with_their_size_and_accuracy(page: Any) -> None:
    card = page.locator(".card", has=page.get_by_role("heading", name="fashion-mnist", exact=True))
    assert "times smaller than the data" in card.inner_text()
    assert re.search(r"\d\d\.\d %", card.inner_text())


def test_a_slider_moves_the_recall_from_one_label_to_another(page: Any) -> None:
    sources = []
    page.select_option("#first", "Sneaker")
    page.select_option("#second", "Bag")
    for value, text in (("0", "100 % Sneaker, 0 % Bag"), ("40", "60 % Sneaker, 40 % Bag"), ("100", "0 % Sneaker")):
        with page.expect_response("**/recall?*"):
            page.locator("#mix").fill(value)
        page.wait_for_timeout(100)
        assert text in page.locator("#mix-label").inner_text()
        sources.append(page.locator("#recalled img").first.get_attribute("src"))
    assert len(set(sources)) == 3


def test_names_become_a_classifier_that_predicts_and_can_be_taken_away(page: Any) -> None:
    page.check("#chips input[value=Sneaker]")
    page.check("#chips input[value=Bag]")
    page.click("#train")
    page.wait_for_selector("#try:not([hidden])", timeout=TRAINING)
    assert "tells Sneaker and Bag apart" in page.locator("#made").inner_text()
    page.set_input_files("#predict-box input[type=file]", [_picture(0, bright=True), _picture(1, bright=False)])
    page.locator("#predictions li").nth(1).wait_for()
    assert page.locator("#predictions li").count() == 2
    with page.expect_download() as download:
        page.click("[data-download=onnx]")
    session = onnxruntime.InferenceSession(Path(download.value.path()).read_bytes(), providers=["CPUExecutionProvider"])
    probabilities = session.run(None, {"images": np.zeros((1, 1, 28, 28), np.float32)})[0]
    assert probabilities.shape == (1, 2)


def test_a_persons_own_pictures_become_a_classifier_of_their_own_names(page: Any) -> None:
    page.check("input[value=pictures]")
    boxes = page.locator("#boxes .box")
    for index, (name, bright) in enumerate((("oben / up", True), ("unten ↓", False))):
        boxes.nth(index).locator("input[type=text]").fill(name)
        pictures = [_picture(seed, bright=bright) for seed in range(5)]
        boxes.nth(index).locator("input[type=file]").set_input_files(pictures)
    page.click("#train")
    page.locator("#made", has_text="oben / up and unten ↓").wait_for(timeout=TRAINING)
    page.set_input_files("#predict-box input[type=file]", [_picture(9, bright=True)])
    page.locator("#predictions li").first.wait_for()
    assert page.locator("#predictions th").first.inner_text() in ("oben / up", "unten ↓")


def test_mistakes_are_said_in_words(page: Any) -> None:
    page.check("#chips input[value=Bag]")
    page.click("#train")
    page.locator("#train-error", has_text="Choose two names or more").wait_for()
    page.check("input[value=pictures]")
    box = page.locator("#boxes .box").first
    box.locator("input[type=file]").set_input_files(
        [_picture(0, bright=True), {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}]
    )
    assert "1 picture, 1 left out: no picture" in box.inner_text()


def test_a_server_that_is_gone_is_said_in_words_and_asked_again(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#recalled img")
    context.set_offline(True)
    page.select_option("#first", "Bag")
    page.locator("#look-error", has_text="The server does not answer").wait_for()
    context.set_offline(False)
    page.select_option("#first", "Coat")
    page.locator("#look-error").wait_for(state="hidden")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_fault(browser: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # axe is put into the page as a script
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#recalled img")
    page.evaluate("for (const part of document.querySelectorAll('[hidden]')) part.hidden = false")
    found = axe.Axe().run(page)
    context.close()
    assert found.response["passes"]
    assert [fault["id"] for fault in found.response["violations"]] == []
