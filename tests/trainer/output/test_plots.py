"""Plots show every point and label of a bundle, and say what it has no data for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference, RunProgress, ValidationPoint
from recall_server.core.memory import StoredItems
from recall_server.core.reports.inspection import DECIMALS, similarity
from recall_server.errors import InvalidBundle
from tests.recall_server.bundle_examples import example_bundle, example_manifest, example_memory, example_preprocessing
from tests.tolerances import assert_close
from trainer.cli.files.plots import plot
from trainer.output.plots.curves import learning_curves
from trainer.output.plots.figures import KINDS, empty, to_bytes
from trainer.output.plots.losses import losses
from trainer.output.plots.sheets import recalled_rows
from trainer.output.plots.similarity import similarity_matrix

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(plot)


def curve(*accuracies: float) -> RunProgress:
    points = tuple(
        ValidationPoint(outer_steps=100 * number, minutes=2.0 * number, accuracy=accuracy)
        for number, accuracy in enumerate(accuracies)
    )
    return RunProgress(version=1, minutes=10, validation=points)


def call(*arguments: object) -> tuple[str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_a_learning_curve_shows_all_points_and_marks_the_best() -> None:
    figure = learning_curves({"one": curve(0.5, 0.75, 0.625), "other": curve(0.25)})
    by_steps, by_minutes = figure.axes
    line, ring = by_steps.lines[:2]
    assert line.get_xydata().tolist() == [[0, 50], [100, 75], [200, 62.5]]
    assert ring.get_xydata().tolist() == [[100, 75]]
    assert by_minutes.lines[0].get_xydata().tolist() == [[0, 50], [2, 75], [4, 62.5]]
    assert [text.get_text() for text in by_minutes.get_legend().get_texts()] == ["one", "other"]
    with pytest.raises(ValueError, match="needs at least one run"):
        learning_curves({})


def test_the_matrix_is_that_of_the_papers_definition_with_a_name_for_every_row() -> None:
    bundle = example_bundle()
    axes = similarity_matrix(bundle).axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert_close(shown, np.array(similarity(bundle, bundle.labels)))
    averaged = bundle.memory.tensors()["addressing"].mean(dim=0)
    expected = torch.nn.functional.cosine_similarity(averaged[0], averaged[2], dim=0)
    assert shown[0, 2] == pytest.approx(float(expected), abs=10**-DECIMALS)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["class 0", "class 1", "class 2"]


def test_labels_of_a_group_are_adjacent() -> None:
    bundle = example_bundle(groups={"odd": ("class 1",), "even": ("class 2", "class 0")})
    axes = similarity_matrix(bundle).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["class 1", "class 2", "class 0"]


def test_a_matrix_of_hundreds_of_labels_is_drawn() -> None:
    memory, preprocessing = example_memory(labels=300), example_preprocessing()
    bundle = MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing)
    figure = similarity_matrix(bundle)
    assert max(figure.get_size_inches()) < 12
    assert to_bytes(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_looks_like_a_formula_is_drawn_literally(kind: str) -> None:
    bundle = example_bundle(labels=(r"$\frac{", "a$b$c", "plain"))
    one, other = (to_bytes(similarity_matrix(bundle), kind) for _ in range(2))  # type: ignore[arg-type]
    assert one == other


def test_recalled_images_are_the_first_rows_of_the_first_labels_in_pixel_space() -> None:
    bundle = example_bundle()
    rows = recalled_rows(bundle, labels=2, images=1)
    assert [name for name, _ in rows] == ["class 0", "class 1"]
    images = bundle.memory.items(torch.eye(3))[:, 0]
    assert_close(rows[1][1][0], bundle.preprocessing.to_pixels(images)[1].numpy(), terms=4)


def test_the_command_draws_all_available_plots(tmp_path: Path) -> None:
    for name, accuracies in (("first", (0.5, 0.6)), ("second", (0.4, 0.7))):
        example_bundle(name=name, progress=curve(*accuracies)).save(tmp_path / f"{name}.safetensors")
    out = tmp_path / "pictures"
    said, complaints = call(tmp_path / "first.safetensors", tmp_path / "second.safetensors", "--output", out)
    names = {f"{name}-{what}.png" for name in ("first", "second") for what in ("bases", "recalled", "similarity")}
    assert {path.name for path in out.iterdir()} == names | {"learning-curves.png"}
    assert (len(said.splitlines()), complaints) == (7, "")
    for path in out.iterdir():
        Image.open(path).load()


def test_missing_plots_are_reported_and_the_rest_is_drawn(tmp_path: Path) -> None:
    preprocessing = example_preprocessing()
    pixels = StoredItems(torch.randn(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    MemoryBundle(example_manifest(pixels, preprocessing), pixels, preprocessing).save(tmp_path / "pixels.safetensors")
    _, complaints = call(tmp_path / "pixels.safetensors", "--output", tmp_path / "out")
    assert "pixels has no bases; it stores stored_items" in complaints
    assert "no coefficients of labels" in complaints
    assert "no learning curve" in complaints
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pixels-recalled.png"]


def test_a_memory_addressed_by_pictures_shows_what_random_queries_recall(tmp_path: Path) -> None:
    memory, preprocessing = example_memory(), example_preprocessing()
    reference = EncoderReference(file="e.onnx", sha256="0" * 64, query_size=memory.query_size)
    manifest = example_manifest(memory, preprocessing, queries="images", query_encoder=reference)
    MemoryBundle(manifest, memory, preprocessing).save(tmp_path / "pictures.safetensors")
    call(tmp_path / "pictures.safetensors", "--output", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"pictures-bases.png", "pictures-recalled.png"}


def test_the_loss_plot_shows_the_metrics_and_their_running_mean(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": loss, "gradient_norm": 1.0} for step, loss in ((1, 2.0), (2, 1.0))]
    figure = losses({"run": [{"step": 0, "validation": 0.5}, *lines]})
    mean, values = figure.axes[0].lines
    assert values.get_xydata().tolist() == [[1, 2.0], [2, 1.0]]
    assert mean.get_ydata()[0] == pytest.approx(2.0)
    assert 1.4 < mean.get_ydata()[1] < 1.5
    with pytest.raises(ValueError, match="run has no outer step"):
        losses({"run": [{"step": 0, "validation": 0.5}]})
    example_bundle().save(tmp_path / "example.safetensors")
    (tmp_path / "m.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    call(tmp_path / "example.safetensors", "--output", tmp_path, "--metrics", tmp_path / "m.jsonl")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "example.safetensors"
    example_bundle().save(path)
    (tmp_path / "broken.safetensors").write_bytes(b"no bundle")
    with pytest.raises(ValueError, match="unknown format 'gif'; use png, svg, pdf"):
        call(path, "--output", tmp_path / "out", "--format", "gif")
    with pytest.raises(ValueError, match="must name a folder, but example.safetensors is a file"):
        call(path, "--output", path)
    with pytest.raises(ValueError, match="two bundles have the same name"):
        call(path, path, "--output", tmp_path / "out")
    with pytest.raises(InvalidBundle, match="broken.safetensors"):
        call(tmp_path / "broken.safetensors", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="plots need matplotlib; install it, or memory-recall with its extra"):
        empty(1, 1)
