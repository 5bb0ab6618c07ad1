"""The page: the classifier comes into view, is tried on marked pictures and by the camera, and is opened again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import LABELS, OpenPage, drop, file, name_classes
from tests.recall_server.serving_examples import picture, png

DELETE_CLASSIFIERS = """async () => {
  const { classifiers } = await (await fetch("/classifier?limit=1000")).json();
  await Promise.all(classifiers.map(({ id }) => fetch(`/classifier/${id}`, { method: "DELETE" })));
}"""


def train(page: Any) -> None:
    name_classes(page, LABELS[0], LABELS[2])
    page.click("#train")
    page.locator("#take").wait_for()


def test_the_result_comes_into_view_and_has_the_focus(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 390, "height": 700}, reduced_motion="reduce")
    train(page)
    page.wait_for_function("document.activeElement.id === 'try-title'")
    assert page.evaluate("() => { const { top } = document.activeElement.getBoundingClientRect(); return top; }") < 200


def test_pictures_in_folders_named_like_classes_are_counted_as_a_test(page: Any, tmp_path: Path) -> None:
    train(page)
    for folder, label in (("右 derecha", "right"), ("other", "left")):
        (tmp_path / "test" / folder).mkdir(parents=True)
        for seed in range(4):
            (tmp_path / "test" / folder / f"{seed}.png").write_bytes(png(picture(label, seed)))
    drop(page, page.locator("#predict-box .box"), tmp_path / "test")
    page.get_by_text("4 of 4 marked pictures right: 100 %, 95 % interval 51 % to 100 %.").wait_for()


def test_the_right_class_of_a_picture_can_be_chosen(page: Any) -> None:
    train(page)
    page.set_input_files("#predict-box input[accept]", [file("left", 1), file("right", 2)])
    page.get_by_text("To test the classifier, choose the right class of each picture").wait_for()
    page.get_by_label("Right class of left 1.png").select_option(LABELS[0])
    page.get_by_text("1 of 1 marked picture right: 100 %").wait_for()
    page.get_by_label("Right class of right 2.png").select_option("none of these")
    page.get_by_text("1 of 2 marked pictures right: 50 %").wait_for()
    page.get_by_label("Right class of right 2.png").select_option("not marked")
    page.get_by_text("1 of 1 marked picture right").wait_for()


def test_each_picture_is_shown_as_the_network_sees_it(page: Any) -> None:
    train(page)
    page.set_input_files("#predict-box input[accept]", [file("left", 1)])
    view = page.get_by_role("img", name="left 1.png as the network sees it, 8×8 pixels")
    view.wait_for()
    page.wait_for_function("""() => {
      const canvas = document.querySelector(".views canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return canvas.width === 8 && new Set(data.filter((_, index) => index % 4 < 3)).size > 2;
    }""")


def test_the_live_camera_shows_a_bar_for_each_class_and_is_released(open_page: OpenPage) -> None:
    page = open_page(permissions=["camera"])
    train(page)
    page.click("#live-button")
    page.locator("#live-bars tr").nth(1).wait_for()
    with page.expect_response("**/predict"):  # and it goes on
        pass
    page.click("#live-button")
    page.locator("#live").wait_for(state="hidden")
    assert page.evaluate("document.getElementById('live-video').srcObject") is None


@pytest.mark.parametrize("kind", ["python", "onnx"])
def test_the_code_beside_the_download_runs_as_it_is_shown(page: Any, kind: str, tmp_path: Path) -> None:
    train(page)
    (tmp_path / "picture.jpg").write_bytes(png(picture("right", 5)))
    with page.expect_download() as download:
        page.click("[data-download=onnx]")
    download.value.save_as(tmp_path / download.value.suggested_filename)
    page.click(f"[data-snippet={kind}]")
    code = page.locator("#snippet").inner_text()
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    assert told.stdout.startswith(LABELS[2])


def test_the_code_for_curl_names_the_classifier_and_can_be_copied(open_page: OpenPage, address: str) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    train(page)
    page.click("#copy")
    page.get_by_text("Copied.", exact=True).wait_for()
    first, second = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert re.fullmatch(rf"curl -s '{address}/classifier/[0-9a-f]+/predict' -F images=@picture.jpg", first)
    assert re.search(r"/download\?format=onnx' -o classifier-[0-9a-f]{8}\.onnx$", second)


def test_earlier_classifiers_are_listed_and_opened(page: Any) -> None:
    page.evaluate(DELETE_CLASSIFIERS)  # the list begins with the newest ten, and the server gives an equal one again
    train(page)
    page.reload()
    name_classes(page, LABELS[0], LABELS[1])
    page.click("#train")
    page.locator("#made", has_text="<b>middle</b>").wait_for()
    page.locator("#earlier [aria-current]", has_text="Open").wait_for()
    page.locator("#earlier").get_by_label(f"Open the classifier of {LABELS[0]} and {LABELS[2]}").first.click()
    page.locator("#made", has_text=f"classifies {LABELS[0]} and {LABELS[2]}").wait_for()
    page.wait_for_function("document.activeElement.id === 'try-title'")
    page.reload()
    page.locator("#made", has_text=f"classifies {LABELS[0]} and {LABELS[2]}").wait_for()


def test_the_camera_records_frames_until_it_is_stopped(open_page: OpenPage) -> None:
    page = open_page(permissions=["camera"])
    page.get_by_role("button", name="Pictures of class 1: use the camera").click()
    page.click("#record:enabled")
    page.locator("#shots img").nth(2).wait_for()
    page.click("#record")
    assert page.locator("#record").inner_text() == "Record"
    page.click("#camera-done")
    taken = page.locator("#shots img").count()
    assert f"{taken} pictures" in page.locator("#boxes .box").first.inner_text()
