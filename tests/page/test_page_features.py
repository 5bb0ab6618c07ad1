"""The page: photographs are compared in the features of an encoder, and each prediction shows how familiar it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import OpenPage, file, give_pictures, look_inside, name_classes
from tests.recall_server.feature_examples import knowing_artifacts


@pytest.fixture(scope="module")
def in_features(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a server whose only memory is of features."""
    return serve(knowing_artifacts(tmp_path_factory.mktemp("features"), "left", "middle", "right"))


@pytest.fixture
def page(open_page: OpenPage, in_features: str) -> Any:
    page = open_page(at=in_features, shown=False)
    page.locator("#cards li").first.wait_for()
    return page


def test_photographs_need_no_choice_and_the_page_says_what_was_chosen(page: Any) -> None:
    give_pictures(page, ("oben", "left"), ("unten", "right"))
    with page.expect_request("**/classifier?*") as sent:
        page.click("#train")
    assert "bundle" not in sent.value.url
    page.locator("#take").wait_for()
    assert "made from your pictures in the features of an encoder (knowing)" in page.locator("#made").inner_text()
    page.click("#how summary")
    used = page.locator("#used").inner_text()
    assert re.search(r"(together|recalled|pictures|prototypes) \(chosen\)\s+\d+ %", used)
    assert "Chosen:" in used
    chosen = page.locator("#used tr", has_text="(chosen)").locator("td").last.inner_text()
    assert page.locator("#quality .figure").inner_text() == chosen  # the estimate is the interval of the chosen way


def test_a_name_and_pictures_make_one_classifier(page: Any) -> None:
    name_classes(page, "left", "unten")
    page.locator("#boxes .box").nth(1).locator("input[accept]").set_input_files([file("right", 1), file("right", 2)])
    page.click("#train")
    page.locator("#take").wait_for()
    assert "left and unten, made from knowing and your pictures" in page.locator("#made").inner_text()
    assert "names and pictures were never measured together" in page.locator("#quality").inner_text()
    page.set_input_files("#predict-box input[accept]", [file("right", 70), file("left", 70)])
    page.get_by_text("2 pictures classified: 1 × unten and 1 × left.").wait_for()


def test_a_class_may_have_a_name_that_a_memory_knows_and_pictures(page: Any) -> None:
    give_pictures(page, ("left", "left"), ("unten", "right"))
    both = page.get_by_label("Use what the memory knows, too")
    assert both.count() == 2
    assert both.nth(0).is_visible()
    assert not both.nth(1).is_visible()  # no memory knows "unten"
    with page.expect_request("**/classifier?*") as sent:
        page.click("#train")
    assert "labels" not in sent.value.url
    page.locator("#take").wait_for()
    both.nth(0).check()
    with page.expect_request("**/classifier?labels=left") as sent:
        page.click("#train")
    page.locator("#made", has_text="made from knowing and your pictures").wait_for()


def test_a_memory_of_features_is_shown_as_a_map_of_its_classes(page: Any) -> None:
    page.locator(".map-place").scroll_into_view_if_needed()
    page.locator(".map-place svg title").nth(2).wait_for(state="attached")
    look_inside(page, "knowing")
    page.get_by_role("img", name="Map of the classes of knowing").nth(1).wait_for()
    dots = page.locator("#map-place circle")
    titles = dots.locator("title").evaluate_all("(all) => all.map((each) => each.textContent)")
    assert sorted(titles) == sorted(page.locator("#cards .face").all_inner_texts())
    places = {tuple(dot.get_attribute(axis) for axis in ("cx", "cy")) for dot in dots.all()}
    assert len(places) == len(titles)
    assert not page.locator("#look").is_visible()  # there are no images to mix


def test_each_prediction_shows_how_familiar_the_picture_is(page: Any) -> None:
    give_pictures(page, ("oben", "left"), ("unten", "right"))
    page.click("#train")
    page.locator("#take").wait_for()
    page.set_input_files("#predict-box input[accept]", [file("left", 70), file("right", 70)])
    page.locator("#predictions li").nth(1).wait_for()
    assert re.search(r"Familiar: \d+ %", page.locator("#predictions li").first.inner_text())


def test_the_threshold_of_none_of_these_can_be_moved(page: Any) -> None:
    give_pictures(page, ("oben", "left"), ("unten", "right"))
    page.click("#train")
    page.locator("#take").wait_for()
    assert not page.locator("#none-line").is_visible()
    page.set_input_files("#predict-box input[accept]", [file("left", 70), file("right", 70)])
    page.locator("#predictions li").nth(1).wait_for()
    page.get_by_label("Right class of left 70.png").select_option("oben")
    page.get_by_label("Right class of right 70.png").select_option("none of these")
    for value, none, right in (("0", "", 1), ("100", "; 2 may show none of these", 2)):
        page.locator("#none-below").fill(value)
        page.get_by_text(f"2 pictures classified: 1 × oben and 1 × unten{none}.", exact=True).wait_for()
        page.get_by_text(f"{right} of 2 marked pictures right").wait_for()  # the class counts, however unfamiliar
        assert page.locator("#predictions .caution").count() == (2 if none else 0)


def test_a_prediction_of_labels_is_explained(page: Any) -> None:
    name_classes(page, "left", "right")
    page.click("#train")
    page.locator("#take").wait_for()
    page.set_input_files("#predict-box input[accept]", [file("left", 70)])
    page.get_by_role("button", name="Why left 70.png is classified as left").click()
    page.get_by_text("For left", exact=True).wait_for()
    assert page.locator(".why tr").first.inner_text().startswith("left of knowing")
    assert re.search(r"right of knowing\s+−\d", page.locator(".why").inner_text())
