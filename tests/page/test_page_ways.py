"""The page: how the user's pictures are used, automatically or by choice."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.page.conftest import OpenPage, choose_way, file, give_pictures

INTERIM = "These predictions compare with your pictures"
LEFT_RIGHT = (("oben", "left"), ("unten", "right"))


def details(page: Any) -> Any:
    """Unfold and return the details of the classifier."""
    page.evaluate("how.open = true")
    return page.locator("#how")


def show(page: Any, *labels: str) -> None:
    page.set_input_files("#predict-box input[accept]", [file(label, 70) for label in labels])
    page.locator("#predictions li").nth(len(labels) - 1).wait_for()


def test_without_a_choice_the_memory_that_takes_pictures_is_used(page: Any) -> None:
    give_pictures(page, *LEFT_RIGHT)
    assert not page.locator("#ways input").first.is_visible()  # whoever has no patience need not look at it
    with page.expect_request("**/classifier?*") as sent:
        page.click("#train")
    assert "addressing=auto" in sent.value.url
    page.locator("#take").wait_for()
    used = details(page)
    assert "The memory marks-images is addressed by pictures" in used.inner_text()
    assert re.search(r"oben\s+\d+ %, familiar", used.inner_text())
    assert page.locator("#cautions p").count() == 0


def test_unfamiliar_pictures_cause_a_warning_before_the_estimate(page: Any) -> None:
    give_pictures(page, ("oben", "left"), ("mitten", "middle"))
    page.click("#train")
    page.locator("#take").wait_for()
    warning = page.locator("#cautions p")
    assert warning.count() == 1
    assert "knows nothing like the pictures of mitten" in warning.inner_text()
    assert page.evaluate("cautions.compareDocumentPosition(quality) === Node.DOCUMENT_POSITION_FOLLOWING")
    assert re.search(r"only \d % of its own pictures are less like", warning.inner_text().replace("%", " %"))
    assert re.search(r"mitten\s+0 %, strange", details(page).inner_text())


def test_prototypes_predict_while_the_network_trains(page: Any) -> None:
    choose_way(page, memory="slow")
    give_pictures(page, *LEFT_RIGHT)
    page.click("#train")
    page.locator("#made", has_text="You can try it already").wait_for()
    show(page, "left", "right")
    assert f"1 × oben and 1 × unten. {INTERIM}" in page.locator("#predict-text").inner_text()
    assert page.locator("#take").is_hidden()
    page.click("#cancel")
    page.locator("#progress-text", has_text="Stopped.").wait_for()
    page.locator("#try").wait_for(state="hidden")  # nothing would answer any more


def test_pictures_are_predicted_again_once_the_network_is_trained(page: Any) -> None:
    held: list[Any] = []
    page.route("**/events", lambda route: held.append(route))
    give_pictures(page, ("links", "left"), ("rechts", "right"))  # or it would be trained already
    page.click("#train")
    page.locator("#made", has_text="You can try it already").wait_for()
    show(page, "left")
    with page.expect_response("**/predict") as again:
        held[0].continue_()
    assert "by" not in again.value.json()["predictions"][0]
    page.locator("#take").wait_for()
    page.locator("#predict-text", has_text="1 picture classified: 1 × links.").wait_for()
    assert INTERIM not in page.locator("#predict-text").inner_text()
    assert page.locator("#predictions li").count() == 1
    assert page.evaluate("document.activeElement.id") != "try-title"  # who tries it already is taken nowhere


def test_stopping_a_training_restores_the_previous_classifier(page: Any) -> None:
    give_pictures(page, *LEFT_RIGHT)
    page.click("#train")
    page.locator("#take").wait_for()
    made = page.locator("#made").inner_text()
    choose_way(page, memory="slow")
    page.click("#train")
    page.locator("#made", has_text="You can try it already").wait_for()
    page.click("#cancel")
    page.locator("#take").wait_for()
    assert page.locator("#made").inner_text() == made


def test_prototypes_alone_are_ready_at_once(page: Any) -> None:
    give_pictures(page, *LEFT_RIGHT)
    choose_way(page, "prototypes")
    page.click("#train")
    page.locator("#progress-text", has_text="Ready: no training was needed.").wait_for()
    assert "that compares pictures with yours" in page.locator("#made").inner_text()
    assert "trained" not in details(page).locator("#stages").inner_text().lower()
    assert "Nothing was trained" in details(page).inner_text()
    show(page, "right")
    assert page.locator("#predict-text").inner_text() == "1 picture classified: 1 × unten."
    assert page.locator("#take").is_visible()


def test_pictures_are_classified_as_names_of_the_chosen_memory(page: Any) -> None:
    give_pictures(page, *LEFT_RIGHT)
    choose_way(page, "classify", "marks")
    page.click("#train")
    page.locator("#take").wait_for()
    assert "oben as left / links, unten as 右 derecha" in details(page).inner_text()
    assert "is not known" in details(page).inner_text()  # how familiar they are


def test_classes_with_the_same_nearest_name_are_explained_and_nothing_is_lost(open_page: OpenPage) -> None:
    page = open_page(trouble=True)
    give_pictures(page, ("oben", "left"), ("auch oben", "left"))
    page.get_by_role("button", name="Pictures of class 2: remove all").click()
    page.locator("#boxes input[accept]").nth(1).set_input_files([file("left", 8)])
    choose_way(page, "classify", "marks")
    page.click("#train")
    page.locator("#train-error", has_text="cannot tell these classes apart").wait_for()
    assert "5 pictures" in page.locator("#boxes .box").first.inner_text()
    assert page.locator("#boxes input[type=text]").nth(1).input_value() == "auch oben"


@pytest.mark.parametrize("queries", ["labels", "images"])
def test_ways_that_no_loaded_memory_supports_cannot_be_chosen(open_page: OpenPage, queries: str) -> None:
    page = open_page(shown=False)

    def only(route: Any) -> None:
        answer = route.fetch().json()
        bundles = [each for each in answer["bundles"] if each["queries"] == queries]
        route.fulfill(json=answer | {"bundles": bundles})

    page.route("**/bundles", only)
    page.reload()
    page.locator("#cards li").first.wait_for()
    page.click("#ways summary")
    ways = {each.get_attribute("value"): each.is_enabled() for each in page.locator("#ways input").all()}
    images = queries == "images"
    assert ways == {"auto": True, "images": images, "classify": not images, "prototypes": images}
    assert page.locator("#way-missing").is_visible()


def test_a_class_that_no_memory_knows_needs_pictures(page: Any) -> None:
    give_pictures(page, *LEFT_RIGHT)
    page.click("#add-box")
    page.keyboard.type("vergessen")
    page.locator("#boxes .box").nth(2).get_by_text("No memory knows this name: add a few pictures.").wait_for()
    page.click("#train")
    page.locator("#train-error", has_text="There are no pictures of “vergessen”").wait_for()
