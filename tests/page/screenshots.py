"""Takes the screenshots of the page for docs/, from a running server with the committed bundles.

python -m tests.page.screenshots http://127.0.0.1:8000 [FOLDER]

Needs Chromium as Debian installs it, and Fashion-MNIST where `recall-trainer` finds it, for pictures of sneakers and
bags.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.page.conftest import look_inside, name_classes
from tests.suite.needs import CHROMIUM
from trainer.data.datasets import load_dataset

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 600_000  # milliseconds
SHOWN = ("Sneaker", "Bag")
SHOTS = 5  # pictures of each class to train from
MARGIN = 16
DESK: dict[str, Any] = {"color_scheme": "light", "viewport": {"width": 1100, "height": 900}}
PHONE: dict[str, Any] = {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}
# (view, file, first and last part of the page that are shown), taken after training by names.
PICTURES = (
    (DESK, "page.png", "header", "#held"),
    (DESK, "page-classifier.png", "#make", "#try"),
    (PHONE, "page-phone-inside.png", "#look", "#alike"),
    (PHONE, "page-phone-classifier.png", "#try", "#predictions"),
)


def main(address: str, folder: Path) -> None:
    """Write page*.png of a desktop in light colours, and page-phone-*.png of a phone in dark ones."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as pictures:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        shown = _pictures(Path(pictures))
        for view in (DESK, PHONE):
            page = browser.new_page(**view)
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            _use(page, shown)
            for chosen, name, first, last in PICTURES:
                if chosen is view:
                    _save(page, first, last, folder / name)
            if view is DESK:
                _use_pictures(page, shown)
                _save(page, "#make", "#used", folder / "page-pictures.png")
        browser.close()


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """Save the first test pictures of each class of SHOWN: one to predict, and SHOTS to train from."""
    data = load_dataset("fashion-mnist")
    paths: dict[str, list[Path]] = {name: [] for name in SHOWN}
    for name, held in paths.items():
        for image in data.test.of_class(data.classes.index(name), 1 + SHOTS).images[:, 0]:
            held.append(folder / f"{name.lower()}-{len(held)}.png")
            Image.fromarray(image.numpy()).save(held[-1])
    return paths


def _use(page: Any, pictures: dict[str, list[Path]]) -> None:
    """Mix two labels, train a classifier of them, and predict a picture of each."""
    look_inside(page, "fashion-mnist")
    page.locator("#similarity td[data-pair]").first.wait_for()
    page.locator("#bases img").first.wait_for()
    page.select_option("#first", SHOWN[0])
    page.select_option("#second", SHOWN[1])
    page.locator("#recalled[aria-label*='50 %'] img").first.wait_for()
    page.locator("#similarity td[data-pair^='Sneaker and Sandal']").hover()
    name_classes(page, *SHOWN)
    page.click("#train")
    page.locator("#try").wait_for()
    page.set_input_files("#predict-box input[accept]", [held[0] for held in pictures.values()])
    _rest(page)


def _use_pictures(page: Any, pictures: dict[str, list[Path]]) -> None:
    """Train a classifier from a few pictures of each class, with the addressing modes unfolded."""
    for box, (name, held) in zip(page.locator("#boxes .box").all(), pictures.items(), strict=True):
        box.locator("input[type=text]").fill(f"my {name.lower()}s")
        box.locator("input[accept]").set_input_files(held[1:])
    page.click("#ways summary")
    page.click("#train")
    page.locator("#made", has_text="trained in").and_(page.locator("#made", has_text="my sneakers")).wait_for()
    page.locator("#predict-text", has_text="2 pictures classified").wait_for()
    _rest(page)


def _rest(page: Any) -> None:
    """Wait for predictions, and remove the pointer and the focus."""
    page.locator("#predictions li").nth(1).wait_for()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")


def _save(page: Any, first: str, last: str, path: Path) -> None:
    """Save the page from one part to another in 256 colours, which takes a third of the bytes."""
    edges = "(part) => { const box = part.getBoundingClientRect(); return [box.top + scrollY, box.bottom + scrollY]; }"
    top = max(page.locator(first).evaluate(edges)[0] - MARGIN, 0)
    bottom = page.locator(last).evaluate(edges)[1] + MARGIN
    clip = {"x": 0, "y": top, "width": page.viewport_size["width"], "height": bottom - top}
    page.screenshot(path=path, full_page=True, clip=clip)
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else DOCS)
