"""The page: making classifiers, using them and downloading them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from tests.page.conftest import LABELS, drop, file, give_pictures, name_classes, photograph
from tests.recall_server.serving_examples import picture, png


def train_names(page: Any, *labels: str) -> None:
    name_classes(page, *labels)
    page.click("#train")
    page.wait_for_selector("#try:not([hidden])")


def test_names_become_a_classifier_that_predicts_and_can_be_downloaded(page: Any) -> None:
    train_names(page, LABELS[0], LABELS[2])
    assert "classifies left / links and 右 derecha" in page.locator("#made").inner_text()
    page.set_input_files("#predict-box input[accept]", [file("left", 1), file("right", 2)])
    page.locator("#predictions li").nth(1).wait_for()
    assert page.locator("#predict-text").inner_text().startswith("2 pictures classified: 1 × ")
    best = [each.locator("th").first.inner_text() for each in page.locator("#predictions li").all()]
    assert best == [LABELS[0], LABELS[2]]
    with page.expect_download() as download:
        page.click("[data-download=onnx]")
    session = onnxruntime.InferenceSession(Path(download.value.path()).read_bytes(), providers=["CPUExecutionProvider"])
    probabilities = session.run(None, {"images": np.zeros((1, 1, 8, 8), np.float32)})[0]
    assert probabilities.shape == (1, 2)


def test_a_classifier_is_shown_with_its_estimate_times_and_card(page: Any) -> None:
    train_names(page, LABELS[0], LABELS[1])
    quality = page.locator("#quality")
    assert quality.get_by_role("heading").inner_text() == "Estimated accuracy"
    assert quality.locator(".figure").inner_text() == "77 % to 87 %"  # 90 of 100, and 60 of the 80 that were either
    assert "A 95 % interval from 200 pictures. An estimate" in quality.inner_text()
    quality.locator("summary").click()
    assert quality.get_by_role("row", name=re.compile(r"middle.* 66 % to 82 % 100")).is_visible()
    page.click("#how summary")
    assert re.search(r"trained \d+\.\d\d? s", page.locator("#stages").inner_text().lower())
    page.click("#classifier-card")
    page.get_by_role("dialog").get_by_text("It tells apart: left / links, <b>middle</b>.").wait_for()


def test_own_pictures_become_a_classifier_of_own_names(page: Any, tmp_path: Path) -> None:
    names = ('oben / up "50 %"', "unten ↓ 🙂 a\\b")
    for index, (name, label) in enumerate(zip(names, ("left", "right"), strict=True)):
        paths = [tmp_path / f"{label}-{seed}.png" for seed in range(5)]
        for seed, path in enumerate(paths):
            path.write_bytes(png(picture(label, seed)))
        box = page.locator("#boxes .box").nth(index)
        box.locator("input[type=text]").fill(name)
        drop(page, box, *paths)
        box.get_by_text("5 pictures").wait_for()
    page.click("#train")
    page.locator("#made", has_text=f"{names[0]} and {names[1]}").wait_for()
    assert "10 pictures" in page.locator("#quality").inner_text()
    page.locator("#take").wait_for()
    drop(page, page.locator("#predict-box .box"), paths[0])
    page.locator("#predictions li").first.wait_for()
    assert page.locator("#predictions th").first.inner_text() == names[1]


def test_a_thousand_dropped_pictures_are_all_used_and_few_are_shown(page: Any, tmp_path: Path) -> None:
    for index, label in enumerate(("left", "right")):
        folder = tmp_path / label / "deeper"
        folder.mkdir(parents=True)
        for seed in range(500):
            (folder / f"{seed}.png").write_bytes(png(picture(label, seed)))
        (folder / "notes.txt").write_text("no picture")
        box = page.locator("#boxes .box").nth(index)
        drop(page, box, tmp_path / label)
        box.get_by_text("500 pictures, the first 12 shown, 1 file skipped: not a picture").wait_for()
        assert box.locator("img").count() == 12
    page.click("#train")
    page.locator("#take").wait_for()  # before that, other answers come first
    drop(page, page.locator("#predict-box .box"), tmp_path)
    page.get_by_text("1,000 pictures classified: 500 × class ").wait_for()
    assert page.locator("#predictions li").count() == 48
    page.get_by_role("button", name="Show more").click()
    assert page.locator("#predictions li").count() == 96


def test_a_photograph_is_shrunk_before_it_is_sent(page: Any) -> None:
    train_names(page, LABELS[0], LABELS[1])
    large = photograph(side=1000)
    assert len(large) > 500_000
    with page.expect_request("**/predict") as sent:
        page.set_input_files(
            "#predict-box input[accept]", [{"name": "IMG 1.JPG", "mimeType": "image/jpeg", "buffer": large}]
        )
    page.locator("#predictions li").first.wait_for()
    assert 1000 < int(sent.value.all_headers()["content-length"]) < 64_000


def test_pictures_beyond_the_servers_limits_are_refused_with_the_limit(page: Any) -> None:
    add = """([box, count, size]) => {
      const transfer = new DataTransfer();
      const content = new Uint8Array(size);
      for (let index = 0; index < count; index++) {
        transfer.items.add(new File([content], `${index}.png`, { type: "image/png" }));
      }
      const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
      document.querySelectorAll("#boxes .box")[box].dispatchEvent(event);
    }"""
    page.evaluate(add, [0, 1000, 10])
    page.evaluate(add, [1, 1, 70_000_000])
    page.locator("#boxes .box").nth(1).get_by_text("1 picture").wait_for()
    page.click("#train")
    page.get_by_text("1,001 pictures are more than the 1,000 that this server accepts at once.").wait_for()
    page.get_by_role("button", name="Pictures of class 1: remove all").click()
    page.evaluate(add, [0, 1, 10])
    page.click("#train")
    page.get_by_text("These pictures are 70 MB together; this server accepts 67.1 MB at once.").wait_for()
    page.locator("#train:enabled").wait_for()


def test_a_training_stopped_while_pictures_are_prepared_is_not_sent(page: Any) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.evaluate("""() => {
      window.waiting = [];
      window.createImageBitmap = () => new Promise((_, reject) => waiting.push(reject));
    }""")
    large = [{"name": f"{seed}.png", "mimeType": "image/png", "buffer": bytes(70_000)} for seed in range(4)]
    for index in range(2):
        page.locator("#boxes input[accept]").nth(index).set_input_files(large)
    sent.clear()
    page.click("#train")
    page.get_by_text("Preparing pictures: 0 of 8").wait_for()
    page.click("#cancel")
    page.evaluate("for (const reject of waiting) reject()")
    page.locator("#train-error", has_text="Stopped before anything was sent.").wait_for()
    assert sent == []


def test_mistakes_are_explained_on_the_page(page: Any) -> None:
    name_classes(page, "Bag")
    page.click("#train")
    page.locator("#train-error", has_text="needs at least two").wait_for()
    boxes = page.locator("#boxes .box")
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    boxes.nth(0).locator("input[accept]").set_input_files([file("left", 0), notes])
    assert "1 picture, 1 file skipped: not a picture" in boxes.nth(0).inner_text()
    boxes.nth(1).locator("input[accept]").set_input_files([file("left", 0)])
    for name, reason in (("50%22", "contains %22"), ("a\\", "ends in a backslash")):
        boxes.nth(0).locator("input[type=text]").fill(name)
        page.click("#train")
        page.locator("#train-error", has_text=reason).wait_for()
    for index, name in enumerate(("same", "Same")):
        boxes.nth(index).locator("input[type=text]").fill(name)
    page.click("#train")
    page.locator("#train-error", has_text="Two classes are called “Same”").wait_for()


def test_a_folder_of_class_folders_becomes_a_class_each(page: Any, tmp_path: Path) -> None:
    for name in ("left", "right"):
        for folder in (tmp_path / "marks" / name, tmp_path / "marks" / name / "more"):
            folder.mkdir(parents=True)
            (folder / "one.png").write_bytes(png(picture(name, len(folder.name))))
    page.set_input_files("#folders", tmp_path / "marks")
    boxes = page.locator("#boxes .box")
    boxes.nth(1).get_by_text("2 pictures", exact=True).wait_for()
    assert [each.input_value() for each in page.locator("#boxes input[type=text]").all()] == ["left", "right"]
    page.click("#train")
    page.locator("#made", has_text="left and right").wait_for()


def test_pasted_pictures_go_into_the_class_that_has_the_focus(page: Any) -> None:
    page.locator("#boxes input[type=text]").nth(1).focus()
    page.evaluate("""() => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([new Uint8Array(9)], "image.png", { type: "image/png" }));
      document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    }""")
    page.locator("#boxes .box").nth(1).get_by_text("1 picture", exact=True).wait_for()


def test_a_sample_is_removed_by_a_click(page: Any) -> None:
    give_pictures(page, ("oben", "left"), ("unten", "right"))
    page.get_by_role("button", name="Remove left 2.png").click()
    assert page.get_by_role("group", name="Pictures of class 1").get_by_text("4 pictures", exact=True).is_visible()
    assert page.get_by_role("button", name="Remove left 0.png").evaluate("(each) => each === document.activeElement")


def test_refusals_are_shown_in_the_servers_words(open_page: Any) -> None:
    page = open_page(trouble=True)
    for index, name in enumerate(("a:b", "c")):
        damaged = {
            "name": "kaputt.png",
            "mimeType": "image/png",
            "buffer": b"\x89PNG\r\n\x1a\n and no more" + b"." * index,
        }
        box = page.locator("#boxes .box").nth(index)
        box.locator("input[type=text]").fill(name)
        box.locator("input[accept]").set_input_files([damaged])
    page.click("#train")
    page.locator("#train-error", has_text="'a:b' cannot name a class").wait_for()
    page.locator("#boxes input[type=text]").first.fill("a")
    page.click("#train")
    page.locator("#train-error", has_text="kaputt.png").wait_for()


def test_the_camera_starts_on_a_click_takes_several_pictures_and_is_released(open_page: Any) -> None:
    page = open_page(permissions=["camera"], shown=False)
    page.add_init_script("""
      const lend = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.lent = [];
      navigator.mediaDevices.getUserMedia = async (wish) => {
        const stream = await lend(wish);
        window.lent.push(stream);
        return stream;
      };
    """)
    page.reload()
    page.locator("#cards .face img").first.wait_for()
    assert page.evaluate("lent.length") == 0
    camera = page.get_by_role("button", name="Pictures of class 1: use the camera")
    camera.click()
    page.locator("#snap:enabled").wait_for()
    for count, text in ((1, "1 picture taken"), (2, "2 pictures taken"), (3, "3 pictures taken")):
        page.keyboard.press("Enter")  # the button has the focus
        page.get_by_text(text).wait_for()
        assert page.locator("#shots img").count() == count
    page.keyboard.press("Escape")
    page.locator("#camera").wait_for(state="hidden")
    assert page.evaluate("lent.length === 1 && lent[0].getTracks().every((track) => track.readyState === 'ended')")
    assert "3 pictures" in page.locator("#boxes .box").first.inner_text()
    assert camera.evaluate("(each) => each === document.activeElement")


def test_a_denied_camera_is_explained(open_page: Any) -> None:
    page = open_page()
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Pictures of class 2: use the camera").click()
    page.locator("#camera-error", has_text="was not allowed to use the camera").wait_for()
    assert page.locator("#snap").is_disabled()
