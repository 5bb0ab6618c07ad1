"""Cards: they contain what the manifest says, and untrusted text stays plain text."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from recall_server.core.classifier.expected_accuracy import Quality
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.reports.bundle_card import bundle_card
from recall_server.core.reports.markdown import document, escape, table
from recall_server.jobs.rows.records import ClassifierRecord, FinishedFile, JobStatus
from recall_server.library.library import Library
from recall_server.service.classifier_card import classifier_card
from tests.recall_server.bundle_examples import example_bundle
from tests.recall_server.job_examples import record, training_task
from tests.recall_server.serving_examples import COLUMNS

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table")
HOSTILE = [
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "`code` | cell",
    "**bold** _it_ ~~gone~~",
    "&lt;b&gt;",
    "<https://evil.example>",
    "a\\",
    "1 < 2 & 3 > 2",
    "$x^2$",
]


def rendered(markdown: str) -> str:
    return str(RENDERER.render(markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_is_escaped_in_markdown(text: str) -> None:
    html = rendered(table(("a", "b"), [(escape(text), "end")]))
    cells = re.findall(r"<td>(.*?)</td>", html)
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert cells == [shown, "end"]


def test_text_of_several_lines_or_with_controls_becomes_one_line() -> None:
    assert escape("MIT\n\n# Approved\x07 by \u202eevil\u2066 us\t") == "MIT # Approved by evil us"
    assert escape("👩‍🚀 Käfer نेवला") == "👩‍🚀 Käfer نेवला"


def test_addresses_are_not_made_links_by_renderers_that_look_for_them() -> None:
    for text in ("see https://evil.example now", "www.evil.example"):
        assert not re.search(r"https?://|www\.", escape(text))
        assert rendered(escape(text)) == f"<p>{text}</p>\n"


def test_sections_without_text_are_left_out() -> None:
    assert document("T", ("", ["a"]), ("B", []), ("C", ["c"])) == "# T\n\na\n\n## C\n\nc\n"


def test_the_card_of_a_memory_describes_its_manifest(library: Library) -> None:
    bundle = library.get("places").bundle
    card = bundle_card(bundle)
    assert card.startswith("# Memory places\n")
    headings = re.findall(r"^## (.*)$", card, flags=re.MULTILINE)
    assert headings == [
        "What it knows",
        "What it was made from",
        "Its size",
        "How good it is",
        "How it was made",
        "What not to use it for",
        "Licence",
    ]
    for told in (
        "near, middle, far",
        "16 x 16 pixels, grey",
        f"`{bundle.sha256}`",
        f"{bundle.file_bytes:,} bytes",
        "**80.00 %** on columns of other seeds, 3-way, 30 pictures",
        "mean of 2 runs with a standard deviation of 10.00 %",
        "Random guessing would reach 33.3 %",
        "most often is far (100.0 % of its pictures), the one recognised least often near (60.0 %)",
        "| near | middle | 40.0 % |\n| middle | far | 20.0 % |\n\n## How it was made",
        "30 steps of SGD, momentum 0.9",
        "Anything but these 3 classes",
    ):
        assert told in card, told


def test_the_card_of_a_memory_that_was_never_measured_says_so() -> None:
    card = bundle_card(example_bundle())
    assert "Not measured: test it" in card
    assert "None" not in re.sub(r"settings.*", "", card), "what is not known is left out"


def test_a_manifest_full_of_markup_makes_a_card_without_any() -> None:
    provenance = example_bundle().manifest.provenance.model_dump()
    for key in ("dataset", "dataset_licence", "method", "device", "code_version"):
        provenance[key] = "`x` <img src=x onerror=alert(1)> [a](b) | **b**\n\n# Heading\n\n- [ ] item"
    provenance["hyper_parameters"] = {"<b>": "</b>|"}
    hostile = example_bundle(
        labels=("<script>", "**a** | b", "![x](y)"), groups={"<i>": ("<script>",)}, provenance=provenance
    )
    html = rendered(bundle_card(hostile))
    harmless = {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "strong"}
    assert set(re.findall(r"<(\w+)", html)) <= harmless - {"strong"}
    assert html.count("<h1>") == 1
    assert len(set(re.findall(r"<code>(.*?)</code>", html)) & {"x"}) == 0


def classifier_and_record(**changed: Any) -> tuple[FreshClassifier, ClassifierRecord]:
    task = training_task(steps=20)
    classifier = FreshClassifier(COLUMNS, (1, 8, 8), task.preprocessing, task.description.retraining, seed=3)
    classifier.fit(task.images, task.targets)
    made = record(**changed)
    moment = made.created_at + timedelta(seconds=1)
    end = {"started_at": moment, "finished_at": moment + timedelta(seconds=2), "seconds": 1.5}
    file = FinishedFile(bytes=1234, sha256="f" * 64)
    return classifier, made.model_copy(update={"status": JobStatus.SUCCEEDED, "file": file} | end)


def test_the_card_of_a_classifier_states_its_expected_accuracy(library: Library) -> None:
    quality = Quality(
        accuracy=0.5,
        source="pictures",
        per_label={"left": 0.25, "middle": 0.5, "right": 0.75},
        counts={"left": 4, "middle": 4, "right": 4},
        explanation="An <estimate>.",
    )
    pictures = {"left": 4, "middle": 4, "right": 4}
    classifier, made = classifier_and_record(quality=quality, pictures=pictures, queries="images")
    card = classifier_card(made, classifier, {"columns": library.get("columns").bundle})
    for told in (
        "# Classifier of 3 classes",
        "Likely right: **50.0 %**. An &lt;estimate&gt;.",
        "| left | 25.0 % | 4 |",
        "pictures: 4 of left, 4 of middle, 4 of right",
        "20 steps of SGD",
        "queued 1.00 s, training 1.50 s, transferring 0.50 s",
        "float32 [N, 1, 8, 8]",
        "The data it was made from: none.",
    ):
        assert told in card, told


def test_the_card_of_a_classifier_says_if_its_accuracy_is_unknown() -> None:
    classifier, made = classifier_and_record()
    card = classifier_card(made, classifier, {})
    assert "test it on pictures of your own before you rely on it" in card
    assert "A memory of it is not loaded here any more" in card


def test_the_python_on_the_card_of_a_classifier_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, made = classifier_and_record()
    (code,) = re.findall(r"```python\n(.*?)```", classifier_card(made, classifier, {}), flags=re.DOTALL)
    (tmp_path / "classifier.onnx").write_bytes(classifier.export_onnx())
    values = np.zeros((8, 8), dtype=np.uint8)
    values[:, COLUMNS["right"]] = 255
    Image.fromarray(values).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out == "right\n"
