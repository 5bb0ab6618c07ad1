"""Takes the screenshots of the page for docs/, from a running server with the committed bundles.

python -m tests.page.screenshots http://127.0.0.1:8000 [FOLDER]

Needs Chromium as Debian installs it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.page.conftest import name_classes
from tests.suite.needs import CHROMIUM

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 600_000  # milliseconds
CLASSES = ("bear", "deer")
MARGIN = 16
DESK: dict[str, Any] = {"color_scheme": "light", "viewport": {"width": 1100, "height": 900}}
PHONE: dict[str, Any] = {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}
# (view, file, first and last part of the page that are shown), taken after training by names.
PICTURES = (
    (DESK, "page.png", "header", "#how"),
    (DESK, "page-memories.png", "#memories", "#cards li:nth-child(3)"),
    (PHONE, "page-phone.png", "#boxes", "#predictions"),
)


def main(address: str, folder: Path) -> None:
    """Write page*.png of a desktop in light colours, and page-phone.png of a phone in dark ones."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for view in (DESK, PHONE):
            page = browser.new_page(**view)
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            _use(page)
            for chosen, name, first, last in PICTURES:
                if chosen is view:
                    _save(page, first, last, folder / name)
        browser.close()


def _use(page: Any) -> None:
    """Train a classifier of names, predict a picture of each and mark it, and draw the maps."""
    page.locator("#cards li").first.wait_for()
    name_classes(page, *CLASSES)
    for box in page.locator("#boxes .box").all():
        box.locator(".strip img").first.wait_for()
    page.click("#train")
    page.locator("#take").wait_for()
    page.set_input_files("#predict-box input[accept]", [DOCS / "pictures" / f"{name}.png" for name in CLASSES])
    for name in CLASSES:
        page.get_by_label(f"Right class of {name}.png").select_option(name)
    for place in page.locator(".map-place").all():
        place.scroll_into_view_if_needed()
        place.locator("svg").wait_for()
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
