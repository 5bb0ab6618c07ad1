"""The page: classes that memories know by name, typed, suggested, ticked, or pressed in a memory."""

from __future__ import annotations

from typing import Any

from tests.page.conftest import LABELS, OpenPage, file, name_classes


def classes(page: Any) -> list[str]:
    """Return the names of all cards."""
    return [each.input_value() for each in page.locator("#boxes input[type=text]").all()]


def note(page: Any, card: int) -> Any:
    return page.locator("#boxes .box").nth(card).locator(".note").first


def tick(page: Any, label: str, *, memory: str) -> None:
    """Open the list of names and tick one of this memory."""
    page.evaluate("for (const part of [browse, ...browse.querySelectorAll('details')]) part.open = true")
    page.get_by_role("group", name=f"Names of {memory}", exact=True).get_by_label(label, exact=True).check()


def test_a_typed_name_is_looked_up_and_shown_as_a_memory_recalls_it(page: Any) -> None:
    name_classes(page, "sneaker", LABELS[1])
    assert note(page, 0).inner_text() == "Known to fashion-mnist. It needs no pictures."
    assert note(page, 1).inner_text() == "Known to marks. It needs no pictures."
    page.locator("#boxes .box").first.locator(".strip img").nth(9).wait_for()
    boxes = page.locator("#boxes .box")
    boxes.nth(1).locator("input[accept]").set_input_files([file("left", 0)])
    assert note(page, 1).inner_text() == "A memory knows this name, too. The classifier learns from your pictures."
    page.locator("#boxes input[type=text]").first.fill("sneakers")
    assert note(page, 0).inner_text() == "No memory knows this name: add a few pictures."
    page.locator("#boxes .box").first.locator(".strip img").first.wait_for(state="detached")


def test_known_names_are_suggested_while_one_types(page: Any) -> None:
    suggestions = page.locator("#boxes input[type=text]").first.evaluate(
        "(field) => [...field.list.options].map((each) => each.value)"
    )
    assert {"Sneaker", "sort 7", LABELS[0], "edges", "ends"} <= set(suggestions)
    assert suggestions.count("other") == 1


def test_a_classifier_of_two_memories_says_that_its_accuracy_is_unknown(page: Any) -> None:
    name_classes(page, LABELS[0], "more:other")
    with page.expect_request("**/classifier") as sent:
        page.click("#train")
    assert sent.value.post_data_json["labels"] == [LABELS[0], "more:other"]
    page.locator("#made", has_text="recalled from").wait_for()
    assert "recalled from marks and more" in page.locator("#made").inner_text()
    assert "There is no estimate. Its classes come from 2 memories (marks, more)" in page.inner_text("#quality")
    assert not page.locator("#cautions p").count()


def test_several_names_may_be_typed_with_commas(page: Any) -> None:
    page.locator("#boxes input[type=text]").first.fill("Bag , Sneaker,endless:other")
    page.keyboard.press("Enter")
    assert classes(page) == ["Bag", "Sneaker", "endless:other"]
    assert page.is_enabled("#train")  # Enter was for the names, and did not begin a training


def test_enter_leads_to_the_next_class_and_then_to_the_training(page: Any) -> None:
    page.locator("#boxes input[type=text]").first.focus()
    page.keyboard.type("Bag")
    page.keyboard.press("Enter")
    page.keyboard.type("Sneaker")
    page.keyboard.press("Enter")
    assert classes(page) == ["Bag", "Sneaker"]
    assert page.evaluate("document.activeElement.id") == "train"


def test_the_examples_become_classes_when_they_are_pressed(page: Any) -> None:
    examples = page.locator(".example")
    for example in examples.all():
        example.click()
    assert classes(page) == examples.all_inner_texts()
    assert len(set(classes(page))) == 2


def test_a_ticked_name_becomes_a_class_and_the_other_way_round(page: Any) -> None:
    tick(page, "Bag", memory="fashion-mnist")
    tick(page, "other", memory="more")
    assert classes(page) == ["Bag", "more:other"]
    page.locator("#boxes input[type=text]").first.fill("Sneaker")
    page.locator("#boxes input[type=text]").first.blur()
    assert page.is_checked("#chips input[value=Sneaker]")
    assert not page.is_checked("#chips input[value=Bag]")
    page.uncheck("#chips input[value=Sneaker]")
    assert classes(page) == ["more:other", ""]


def test_a_name_pressed_in_a_memory_becomes_a_class(page: Any) -> None:
    page.get_by_role("button", name="Add the class Sneaker").click()
    page.get_by_role("button", name="Add the class Bag").click()
    page.get_by_role("button", name="Add the class Bag").click()
    assert classes(page) == ["Sneaker", "Bag"]
    many = page.locator(".card", has=page.get_by_role("heading", name="many", exact=True))
    assert many.locator(".face").count() == 10
    many.get_by_role("button", name="Show all 60 names").click()
    many.locator(".face img").nth(59).wait_for()
    assert page.evaluate("document.activeElement.textContent") == "sort 10"


def test_the_search_asks_which_memory_is_meant_by_an_ambiguous_name(page: Any) -> None:
    page.click("#browse summary >> nth=0")
    page.fill("#find", "Other")
    page.keyboard.press("Enter")
    page.locator("#find-error", has_text="may be endless:other and more:other").wait_for()
    page.fill("#find", "derech")
    page.keyboard.press("Enter")  # a unique part is enough
    assert classes(page) == [LABELS[2], ""]
    assert page.input_value("#find") == ""
    assert page.is_enabled("#train")  # Enter picked a name, and did not begin a training


def test_groups_and_aliases_become_classes(page: Any) -> None:
    page.evaluate("for (const part of [browse, ...browse.querySelectorAll('details')]) part.open = true")
    page.get_by_role("button", name="edges", exact=True).click()
    assert classes(page) == ["top", "bottom"]
    page.get_by_role("button", name="ends", exact=True).click()
    assert classes(page) == ["top", "bottom", "ends"]
    assert note(page, 2).inner_text() == f"Stands for more:top and {LABELS[2]}."


def test_an_alias_alone_is_enough_for_a_classifier(page: Any) -> None:
    name_classes(page, "ends")
    page.click("#train")
    page.locator("#made", has_text="classifies top and 右 derecha").wait_for()


def test_an_unknown_name_is_reported_with_a_suggestion_and_the_names_stay(open_page: OpenPage) -> None:
    page = open_page(trouble=True)
    name_classes(page, "Bag", "Snaeker")
    page.click("#train")
    page.locator("#train-error", has_text="did you mean 'Sneaker'?").wait_for()
    assert classes(page) == ["Bag", "Snaeker"]
