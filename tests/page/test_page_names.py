"""The page: choosing names of several memories by ticking, searching, typing, groups and aliases."""

from __future__ import annotations

from typing import Any

from tests.page.conftest import LABELS, OpenPage, choose_memory


def type_name(page: Any, text: str) -> None:
    page.fill("#find", text)
    page.keyboard.press("Enter")


def test_a_classifier_of_two_memories_says_that_its_accuracy_is_unknown(page: Any) -> None:
    choose_memory(page, "marks")
    page.get_by_label(LABELS[0], exact=True).check()
    type_name(page, "more:other")
    page.locator("#chosen", has_text=f"Chosen: {LABELS[0]} of marks; other of more.").wait_for()
    with page.expect_request("**/classifier") as sent:
        page.click("#train")
    assert sorted(sent.value.post_data_json["labels"]) == [f"marks:{LABELS[0]}", "more:other"]
    page.locator("#made", has_text="recalled from").wait_for()
    assert "recalled from marks and more" in page.locator("#made").inner_text()
    assert "of 2 memories (marks, more)" in page.locator("#cautions").inner_text()
    assert "There is no estimate" in page.locator("#quality").inner_text()
    assert not page.locator("#used").inner_text()


def test_the_page_asks_which_memory_is_meant_by_an_ambiguous_name(page: Any) -> None:
    type_name(page, "Other")
    page.locator("#find-error", has_text="may be endless:other and more:other").wait_for()
    assert page.input_value("#find") == "Other"
    page.get_by_role("group", name="Names of more", exact=True).get_by_label("other", exact=True).check()
    assert page.locator("#chosen").inner_text() == "Chosen: other of more."


def test_a_unique_part_of_a_name_is_enough(page: Any) -> None:
    type_name(page, "derech")
    assert page.locator("#chosen").inner_text() == f"Chosen: {LABELS[2]} of marks."
    assert page.input_value("#find") == ""
    assert page.is_enabled("#train")  # Enter picked a name, and did not begin a training


def test_groups_and_aliases_select_their_labels(page: Any) -> None:
    choose_memory(page, "more")
    page.get_by_role("button", name="edges", exact=True).click()
    assert page.locator("#chosen").inner_text() == "Chosen: top and bottom of more."
    page.get_by_role("button", name="Untick all names").click()
    assert page.locator("#chosen").inner_text() == ""
    page.get_by_role("button", name="ends", exact=True).click()
    page.locator("#chosen", has_text="Chosen: ").wait_for()
    assert page.locator("#chosen").inner_text() == f"Chosen: {LABELS[2]} of marks; top of more."


def test_several_names_may_be_typed_with_commas(page: Any) -> None:
    type_name(page, "Bag , edges, endless:other")
    page.locator("#chosen", has_text="Bag of fashion-mnist; top and bottom of more").wait_for()
    assert page.locator("#chosen").inner_text().startswith("Chosen: other of endless;")


def test_an_unknown_name_is_reported_with_a_suggestion_and_the_selection_stays(open_page: OpenPage) -> None:
    page = open_page(trouble=True)
    page.get_by_label("Bag", exact=True).check()
    type_name(page, "Snaeker")
    page.locator("#find-error", has_text="did you mean 'Sneaker'?").wait_for()
    assert page.locator("#chosen").inner_text() == "Chosen: Bag of fashion-mnist."
    type_name(page, "Sneaker")
    page.locator("#find-error").wait_for(state="hidden")
    assert page.locator("#chosen").inner_text() == "Chosen: Sneaker and Bag of fashion-mnist."


def test_the_selection_stays_when_another_memory_is_opened(page: Any) -> None:
    page.get_by_label("Bag", exact=True).check()
    choose_memory(page, "marks")
    assert page.locator("#chips summary").first.inner_text().startswith("marks")
    assert page.locator("#chosen").inner_text() == "Chosen: Bag of fashion-mnist."
