"""With a keyboard, with a screen reader, on a telephone, in the dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.page.conftest import LABELS, OpenPage, file, give_pictures, look_inside, name_classes

PHONE = {"width": 360, "height": 844}
# The first sheet of the page is seen without a mouse by whoever presses Tab; this is more than it takes to get there.
MOST_TABS = 120


def train(page: Any) -> None:
    name_classes(page, *LABELS[:2])
    page.click("#train")
    page.wait_for_selector("#try:not([hidden])")
    page.set_input_files("#predict-box input[accept]", [file("left", 1)])
    page.locator("#predictions li").first.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_accessibility_fault(open_page: OpenPage, scheme: str) -> None:
    page = open_page(color_scheme=scheme, bypass_csp=True)  # axe is put into the page as a script
    train(page)
    give_pictures(page, ("oben", "left"), ("mitten", "middle"))
    page.click("#train")
    page.locator("#used table").wait_for(state="attached")
    page.locator("#take").wait_for()
    look_inside(page, "fashion-mnist")
    page.locator("#similarity td[data-pair]").first.wait_for()
    page.locator("#bases img").first.wait_for()
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.evaluate("for (const part of document.querySelectorAll('[hidden]')) part.hidden = false")
    found = {"page": Axe().run(page)}
    page.click("#classifier-card")
    page.get_by_role("dialog").get_by_role("heading", name="Licence").wait_for()
    found["card"] = Axe().run(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Pictures of class 1: use the camera").click()
    page.locator("#snap:enabled").click()
    page.locator("#shots img").wait_for()
    found["camera"] = Axe().run(page)
    assert all(each.response["passes"] for each in found.values())
    faults = {name: [fault["id"] for fault in each.response["violations"]] for name, each in found.items()}
    assert faults == {"page": [], "card": [], "camera": []}


def test_everything_works_by_keyboard(page: Any) -> None:
    def tab_to(selector: str, *, then_press: str) -> None:
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return page.keyboard.press(then_press)
        pytest.fail(f"{selector} cannot be reached with the Tab key")

    tab_to("nav a[href='#make']", then_press="Enter")
    tab_to("#boxes input[type=text]", then_press="B")
    page.keyboard.type("ag")
    tab_to("#train", then_press="Enter")
    page.locator("#train-error", has_text="needs at least two").wait_for()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "ways"
    page.keyboard.press("Enter")
    tab_to("input[name=way]", then_press="ArrowUp")
    assert page.is_checked("input[value=prototypes]")
    tab_to("button[aria-label='Add the class Sneaker']", then_press="Enter")
    assert page.locator("#boxes input[type=text]").nth(1).input_value() == "Sneaker"


@pytest.mark.parametrize("memory", ["fashion-mnist", "many", "marks-images"])
def test_a_phone_shows_everything_without_horizontal_scrolling(open_page: OpenPage, memory: str) -> None:
    page = open_page(viewport=PHONE, has_touch=True)
    look_inside(page, memory)
    page.evaluate("for (const part of document.querySelectorAll('[hidden]')) part.hidden = false")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_screen_readers_announce_states_of_a_training_but_not_its_steps(page: Any) -> None:
    page.evaluate("""() => {
      window.heard = [];
      const place = document.getElementById("progress-heard");
      new MutationObserver(() => heard.push(place.textContent)).observe(place, { childList: true });
    }""")
    train(page)
    heard = page.evaluate("heard")
    assert heard[-1] == "Trained."
    assert not [text for text in heard if "Step" in text]
