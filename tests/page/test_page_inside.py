"""The page: views of memories, that is bases, recalled images, similarities and cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from recall_client import RecallClient
from tests.page.conftest import OpenPage, look_inside


def test_the_memories_are_shown_with_their_size_and_accuracy(page: Any) -> None:
    card = page.locator(".card", has=page.get_by_role("heading", name="fashion-mnist", exact=True))
    assert re.search(
        r"\d+ kB, [\d,]+ times smaller than the 47 MB of its data", card.inner_text().replace(".5 kB", " kB")
    )
    assert re.search(r"\d\d\.\d %", card.inner_text())


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "marks"])
def test_page_answer_client_and_card_state_the_same_accuracy_of_a_memory(page: Any, address: str, name: str) -> None:
    with RecallClient(address) as client:
        stated = client.bundle(name).stated_accuracy
        listed = next(each for each in client.bundles() if each.name == name).stated_accuracy
    assert stated is not None
    assert stated == listed
    card = page.locator(".card", has=page.get_by_role("heading", name=name, exact=True))
    assert f"Accuracy {stated.sentence}" in card.inner_text()
    page.get_by_role("button", name=f"Card of {name}", exact=True).click()
    page.get_by_role("dialog").get_by_text(stated.sentence, exact=True).wait_for()


def test_the_first_view_is_below_200_kilobytes_and_loads_nothing_external(open_page: OpenPage, address: str) -> None:
    page = open_page()  # which fails for a request to anywhere else
    assert not page.locator("#look").is_visible()  # it is folded away, and not asked for
    look_inside(page, "fashion-mnist")
    page.locator("#similarity td[data-pair]").first.wait_for()
    page.locator("#bases img").first.wait_for()
    page.wait_for_selector("#recalled img")
    sizes = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((each) => [each.name, each.encodedBodySize])"
    )
    own = {name: size for name, size in sizes if name.startswith(address)}
    assert f"{address}/web/main.js" in own
    assert f"{address}/bundles/fashion-mnist/bases" in own
    assert 10_000 < sum(own.values()) < 200_000


def test_a_slider_moves_the_recall_from_one_label_to_another(page: Any) -> None:
    look_inside(page, "fashion-mnist")
    sources = []
    page.select_option("#first", "Sneaker")
    page.select_option("#second", "Bag")
    for value, text in (
        ("0", "100 % Sneaker, 0 % Bag"),
        ("40", "60 % Sneaker, 40 % Bag"),
        ("100", "0 % Sneaker, 100 % Bag"),
    ):
        page.locator("#mix").fill(value)
        page.locator(f"#recalled[aria-label*='{text}']").wait_for()
        assert text in page.locator("#mix-label").inner_text()
        assert text in page.locator("#mix").get_attribute("aria-valuetext")
        sources.append(page.locator("#recalled img").first.get_attribute("src"))
    assert len(set(sources)) == 3


def test_the_bases_are_shown_as_they_are_stored(page: Any) -> None:
    look_inside(page, "fashion-mnist")
    page.locator("#bases img").first.wait_for()
    assert page.locator("#bases img").count() == 16
    assert page.locator("#bases").get_attribute("aria-label") == "16 of 16 bases, 14×14 pixels each"
    sizes = page.evaluate("[...document.querySelectorAll('#bases img')].map((each) => each.naturalWidth)")
    assert set(sizes) == {14}


def test_a_memory_without_bases_has_no_pictures_of_them(page: Any) -> None:
    look_inside(page, "marks")
    assert not page.locator("#held").is_visible()
    assert page.locator("#first option").all_inner_texts() == ["left / links", "<b>middle</b>", "右 derecha"]


def test_the_similarity_of_two_names_is_shown_on_hover_and_on_focus(page: Any) -> None:
    look_inside(page, "fashion-mnist")
    page.locator("#similarity td[data-pair]").first.wait_for()
    table, told = page.locator("#similarity table"), page.locator("#similarity-pair")
    assert table.get_by_role("columnheader").all_inner_texts() == table.get_by_role("rowheader").all_inner_texts()
    table.locator("td[data-pair^='Shirt and Coat']").hover()
    value = table.locator("td[data-pair^='Coat and Shirt']").inner_text()
    assert told.inner_text() == f"Shirt and Coat: {value}"
    table.locator("td[tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft"):  # the last has no room
        page.keyboard.press(key)
    assert told.inner_text().startswith("Trouser and T-shirt/top: 0.")
    assert table.locator("[tabindex='0']").count() == 1


def test_for_many_names_the_most_similar_are_shown(page: Any) -> None:
    look_inside(page, "many")
    page.get_by_role("button", name="Compare 60 names").click()
    page.select_option("#around", label="sort 7")
    first = page.locator("#similarity tbody tr").first
    assert first.locator("th").inner_text() == "sort 7"
    values = [float(text) for text in first.locator("td").all_inner_texts()]
    assert len(values) == 24
    assert values == sorted(values, reverse=True)
    page.click("#browse summary >> nth=0")
    page.fill("#find", "sort 5")
    assert page.locator("#chips label:visible").count() == 11
    assert page.locator("#found").inner_text() == "11 names"


def test_the_card_of_a_memory_is_shown_and_can_be_saved(page: Any) -> None:
    button = page.get_by_role("button", name="Card of marks", exact=True)
    button.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("heading", name="Licence").wait_for()
    assert "<b>middle</b>" in dialog.inner_text()  # as text: nothing that a bundle says becomes markup
    assert dialog.locator("b").count() == 0
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Save as Markdown").click()
    assert download.value.suggested_filename == "marks.md"
    assert "## Licence" in Path(download.value.path()).read_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert button.evaluate("(each) => each === document.activeElement")
