"""Exports: the files of each format, normalised as its tool expects, and nothing is overwritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing
from recall_server.errors import InvalidRequest, StorageFailed, UnsupportedQuery
from tests.recall_server.bundle_examples import example_bundle, example_manifest, example_memory, example_preprocessing
from tests.recall_server.feature_examples import write_feature_artifacts
from tests.tolerances import assert_close, rounding
from trainer.cli.files.export import export_bundle
from trainer.data.datasets import load_dataset
from trainer.output.export import formats
from trainer.output.export.formats import FORMATS, Format
from trainer.output.export.images import recall_images
from trainer.output.export.names import folder_names
from trainer.output.export.normalisation import CONSTANTS, Normalisation, choose


def read(path: Path) -> Any:
    """As the most careful of the tools does: what only a full unpickling would load is refused by torch."""
    return torch.load(path, weights_only=True)  # noqa: TID251


def whitening(channels: int = 1) -> ZCA:
    pixels = torch.rand(60, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    return ZCA.fit(pixels)


def saved(folder: Path, *, dataset: str = "mnist", preprocessing: AbstractPreprocessing | None = None) -> Path:
    """A bundle of three labels with two images of 8x8 each, from a data set of that name."""
    bundle = example_bundle()
    manifest = bundle.manifest
    changed: dict[str, Any] = {"provenance": manifest.provenance.model_copy(update={"dataset": dataset})}
    if preprocessing is not None:
        changed["preprocessing"] = preprocessing.kind
    made = MemoryBundle(manifest.model_copy(update=changed), bundle.memory, preprocessing or bundle.preprocessing)
    path = folder / "example.safetensors"
    made.save(path)
    return path


def expected(path: Path) -> Tensor:
    """[k * r, C, H, W] in pixel space, by the definition: label after label, row after row."""
    bundle = MemoryBundle.load(path)
    images = bundle.memory.items(torch.eye(len(bundle.labels)))
    return bundle.preprocessing.to_pixels(images.flatten(0, 1))


TARGETS = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("whitened", [False, True])
def test_dc_and_dsa_exports_have_their_list_format(tmp_path: Path, whitened: bool) -> None:
    path = saved(tmp_path, preprocessing=whitening() if whitened else None)
    export_bundle(path, "dc", tmp_path / "out")
    images, labels = read(tmp_path / "out" / "res_DC_MNIST_ConvNet_2ipc.pt")["data"][-1]
    assert labels.tolist() == TARGETS
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert_close(images, (expected(path) - 0.1307) / 0.3081, terms=4)


@pytest.mark.parametrize(("kind", "suffix"), [("mtt", "_best"), ("ddranking", "")])
def test_mtt_and_ddranking_exports_have_images_labels_and_a_rate(tmp_path: Path, kind: str, suffix: str) -> None:
    path = saved(tmp_path)
    export_bundle(path, kind, tmp_path / "out")
    images, labels, rate = (read(tmp_path / "out" / f"{name}{suffix}.pt") for name in ("images", "labels", "lr"))
    assert_close(images, (expected(path) - 0.1307) / 0.3081, terms=4)
    assert labels.tolist() == TARGETS
    assert float(rate) == pytest.approx(MemoryBundle.load(path).manifest.retraining.learning_rate)


def test_idc_exports_have_images_in_pixel_space(tmp_path: Path) -> None:
    path = saved(tmp_path, preprocessing=whitening())
    export_bundle(path, "idc", tmp_path / "out")
    images, labels = read(tmp_path / "out" / "data.pt")
    assert_close(images, expected(path), terms=4)
    assert labels.tolist() == TARGETS


def test_png_exports_are_the_recalled_images_in_eight_bits(tmp_path: Path) -> None:
    memory, preprocessing = example_memory(rows=12), example_preprocessing()
    path = tmp_path / "example.safetensors"
    MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing).save(path)
    export_bundle(path, "png", tmp_path / "out")
    for number, image in enumerate(expected(path)):
        shown = np.asarray(Image.open(tmp_path / "out" / f"class {number // 12}" / f"{number % 12:02}.png"))
        assert np.abs(shown / 255 - image[0].clamp(0, 1).numpy()).max() <= 0.5 / 255 + rounding(torch.float32)
    again = load_dataset(str(tmp_path / "out"), image_size=8)
    assert again.classes == ("class 0", "class 1", "class 2")
    assert len(again.train) + len(again.validation) + len(again.test) == 36


@pytest.mark.parametrize("kind", FORMATS)
def test_every_export_describes_its_bundle_and_normalisation(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path)
    recalled, files = export_bundle(path, kind, tmp_path / "out", per_label=1)
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    assert said["bundle"]["sha256"] == MemoryBundle.load(path).sha256
    assert said["labels"] == ["class 0", "class 1", "class 2"]
    assert (said["images_per_label"], said["format"], said["whitened"]) == (1, kind, False)
    assert said["mean"] == (None if kind in ("idc", "png") else [0.1307])
    assert said["share_outside_0_to_1"] == round(recalled.outside, 6)
    assert len(recalled.pixels) == 3
    assert files == sum(file.is_file() for file in (tmp_path / "out").rglob("*"))


def test_the_same_export_is_the_same_bytes_and_holds_no_more_than_its_numbers(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for name in ("one", "other"):
        export_bundle(path, "mtt", tmp_path / name, per_label=1)
    one, other = (tmp_path / name / "images_best.pt" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size < 3 * 64 * 4 + 2000, "a view would bring its whole storage along"


def test_data_sets_without_standard_constants_use_the_bundles_normalisation(tmp_path: Path) -> None:
    bundle = MemoryBundle.load(saved(tmp_path, dataset="my pictures"))
    assert choose(bundle, None, None) == Normalisation((pytest.approx(0.3),), (0.25,))  # type: ignore[arg-type]
    assert choose(bundle, (0.5,), (0.2,)) == Normalisation((0.5,), (0.2,))


@pytest.mark.parametrize(
    ("mean", "deviation", "message"),
    [
        ((0.5,), None, "--mean and --deviation must be given together"),
        ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "one number per channel \\(1\\), not 3 and 3"),
        ((0.5,), (0.0,), "finite numbers, and --deviation must be above zero"),
        ((float("nan"),), (0.2,), "finite numbers, and --deviation must be above zero"),
    ],
)
def test_an_invalid_normalisation_is_refused(
    tmp_path: Path, mean: tuple[float, ...], deviation: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(MemoryBundle.load(saved(tmp_path)), mean, deviation)


def test_an_unknown_normalisation_must_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path, dataset="my pictures", preprocessing=whitening())
    with pytest.raises(ValueError, match="whitened and its data set has no standard normalisation; give the --mean"):
        export_bundle(path, "mtt", tmp_path / "out")
    export_bundle(path, "mtt", tmp_path / "out", mean=(0.5,), deviation=(0.5,))
    assert_close(read(tmp_path / "out" / "images_best.pt"), 2 * expected(path) - 1, terms=4)


def test_constants_have_a_mean_and_a_deviation_for_each_channel() -> None:
    assert all(len(mean) == len(deviation) in (1, 3) for mean, deviation in CONSTANTS.values())
    assert set(CONSTANTS) == set(formats.DATASETS)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("dsa", {}, "unknown format 'dsa'; use dc, mtt, idc, ddranking, png"),
        ("dc", {"per_label": 3}, "recalls 1 to 2 images of each label, not 3"),
        ("idc", {"mean": (0.5,), "deviation": (0.5,)}, "idc stores images in pixel space, which its readers normalise"),
    ],
)
def test_invalid_exports_are_refused_before_writing(
    tmp_path: Path, kind: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((InvalidRequest, ValueError), match=message):
        export_bundle(saved(tmp_path), kind, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["example.safetensors"]


def test_a_memory_addressed_by_pictures_cannot_be_exported() -> None:
    memory = example_memory()
    bundle = example_bundle()
    reference = EncoderReference(file="e.onnx", sha256="0" * 64, query_size=memory.query_size)
    manifest = example_manifest(memory, bundle.preprocessing, queries="images", query_encoder=reference)
    with pytest.raises(UnsupportedQuery, match="addressed by pictures, not by labels"):
        recall_images(MemoryBundle(manifest, memory, bundle.preprocessing))


def test_a_memory_of_features_is_not_exported_as_images(tmp_path: Path) -> None:
    write_feature_artifacts(tmp_path, ("columns", {"left": "left", "right": "right"}))
    with pytest.raises(UnsupportedQuery, match="recalls features, which are not exported as images"):
        recall_images(MemoryBundle.load(tmp_path / "bundles" / "columns.safetensors"))


def test_only_an_export_is_replaced_and_only_on_request(tmp_path: Path) -> None:
    path, thesis = saved(tmp_path), tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="thesis is not an empty folder or an export"):
            export_bundle(path, "png", thesis, overwrite=overwrite)
    assert (thesis / "chapter.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="must name a folder, but example.safetensors is a file"):
        export_bundle(path, "png", path, overwrite=True)
    out = tmp_path / "out"
    out.mkdir()  # an empty folder is no loss
    export_bundle(path, "png", out)
    with pytest.raises(ValueError, match="out has an export; choose another --output"):
        export_bundle(path, "mtt", out)
    export_bundle(path, "mtt", out, overwrite=True)
    assert {file.name for file in out.iterdir()} == {"export.json", "images_best.pt", "labels_best.pt", "lr_best.pt"}
    assert {file.name for file in tmp_path.iterdir()} == {"example.safetensors", "thesis", "out"}


def test_a_full_disk_keeps_the_old_export_and_leaves_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = saved(tmp_path), tmp_path / "out"
    export_bundle(path, "idc", out)
    before = (out / "data.pt").read_bytes()

    def full(folder: Path, *rest: object) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "idc", Format(full, normalised=False, reads=""))
    with pytest.raises(StorageFailed, match="out could not be written: No space left on device"):
        export_bundle(path, "idc", out, overwrite=True)
    assert (out / "data.pt").read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"example.safetensors", "out"}


def test_labels_become_valid_and_distinct_folder_names() -> None:
    labels = ["T-shirt/top", "T-shirt_top", "..", "CON?", "a/../../b", "é" * 200, "é" * 199, "Cat", "cat"]
    names = folder_names(labels)
    assert names[:2] == ["T-shirt_top", "T-shirt_top (2)"]
    assert len({name.casefold() for name in names}) == len(labels)
    assert all(name not in ("", ".", "..") and "/" not in name and len(name.encode()) <= 255 for name in names)
