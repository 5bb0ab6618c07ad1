"""The command `quickstart`: the better of two spaces, said with both figures and with what all pictures give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recall_server.core.bundle.bundle import MemoryBundle
from tests.trainer.cli.test_command_line import run
from tests.trainer.data.encoders.test_standard_form import SCALING, description, tower
from tests.trainer.data_examples import archives, bars_data, picture_folder
from trainer.data.encoders.standard_form import standard_form
from trainer.methods.named import compose

SMALL = ["--image-size", "8", "--images-per-class", "2"]
NARROW = ["objective.network", "retraining.network"]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifacts folder with a tiny network in the place of the usual encoder."""
    monkeypatch.setenv("RECALL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    narrow = [f"{each}=convnet:filters=8,depth=2" for each in NARROW]
    monkeypatch.setattr("trainer.run.search.quickstart.compose", lambda name: compose(name, narrow))
    encoders = tmp_path / "served" / "encoders"
    encoders.mkdir(parents=True)
    (encoders / "efficientnet-lite0.onnx").write_bytes(standard_form(tower(), SCALING, description()))
    return tmp_path / "served"


def coloured(root: Path, each: int = 30) -> Path:
    """Class folders of pictures that differ in colour alone, which networks of any weights can tell apart."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 200, size=(8, 8, 3), dtype=np.uint8)
            pixels[:, :, channel] = np.minimum(255, pixels[:, :, channel].astype(int) + 55)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def test_the_space_that_is_better_on_validation_pictures_is_kept_and_both_figures_are_said(
    served: Path, tmp_path: Path
) -> None:
    data = picture_folder(tmp_path / "my bars", "high", "middle", "low")
    (data / "low" / "broken.png").write_bytes(b"not a picture")
    output = run("quickstart", str(data), "--artifacts", str(served), *SMALL)
    assert output.count("1 file was left out: low/broken.png") == 1, "the folder is read twice"
    assert "the memory of 'my bars' is called my-bars; --name gives it another name" in output
    assert "features of efficientnet-lite0" in output and ", pixels " in output
    bundle = MemoryBundle.load(served / "bundles" / "my-bars.safetensors")
    kept = "pixels" if bundle.manifest.space == "pixels" else "features of efficientnet-lite0"
    assert f"the memory of {kept} is kept" in output
    assert "linear probe, 70 pictures" in output and "pixel network" in output
    assert "A memory pays off" in output
    (accuracy,) = bundle.manifest.accuracy
    assert accuracy.protocol == "bundle" and accuracy.mean > 0.6


def test_pixels_are_not_searched_where_features_are_perfect(served: Path, tmp_path: Path) -> None:
    output = run("quickstart", str(coloured(tmp_path / "colours")), "--artifacts", str(served), *SMALL)
    assert "features have 100.0 %" in output and "further candidates are not tried" in output
    assert "candidate 2" not in output
    assert MemoryBundle.load(served / "bundles" / "colours.safetensors").manifest.space == "features"
    assert not list(tmp_path.glob("*.png")), "features have no images to draw"
    bundle = str(served / "bundles" / "colours.safetensors")
    evaluated = run("evaluate", bundle, "--dataset", str(tmp_path / "colours"), "--record")
    assert "linear probe, 4" in evaluated and "95 % interval" in evaluated
    assert len(MemoryBundle.load(bundle).manifest.accuracy) == 1, "the same measurement replaces the first"
    with pytest.raises(ValueError, match="colours.safetensors is a memory of features, which no steps improve"):
        run("distill", "--dataset", str(tmp_path / "colours"), "--start", bundle, "--output", bundle)
    with pytest.raises(ValueError, match="--network and --ray is for memories of pixels"):
        run("evaluate", bundle, "--dataset", str(tmp_path / "colours"), "--network", "mlp", "--ray", "127.0.0.1:1")


def test_none_keeps_to_pixels_and_a_name_to_features(served: Path, tmp_path: Path) -> None:
    data = coloured(tmp_path / "colours")
    command = ["quickstart", str(data), "--artifacts", str(served), *SMALL]
    output = run(*command, "--encoder", "none", "--picture", str(tmp_path / "seen.png"))
    assert "features" not in output
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
    assert MemoryBundle.load(served / "bundles" / "colours.safetensors").manifest.space == "pixels"
    output = run(*command, "--encoder", "efficientnet-lite0", "--overwrite")
    assert "further candidates" not in output and "pixel network" not in output
    assert MemoryBundle.load(served / "bundles" / "colours.safetensors").manifest.space == "features"


def test_without_the_encoder_a_memory_of_pixels_is_made_and_the_way_to_the_encoder_is_said(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.setattr("trainer.data.encoders.installed.SHIPPED", tmp_path)
    (served / "encoders" / "efficientnet-lite0.onnx").unlink()
    command = ["quickstart", str(coloured(tmp_path / "colours")), "--artifacts", str(served), *SMALL]
    advice = f"recall-trainer encoder add efficientnet-lite0 --folder {tmp_path}/served/encoders"
    said = refused(*command, "--encoder", "efficientnet-lite0")
    assert "there is no encoder 'efficientnet-lite0'" in said and advice in said
    output = run(*command)
    assert advice in output and "this one is of pixels" in output


def test_a_few_pictures_are_said_to_be_few_and_a_memory_larger_than_they_are_too(served: Path, tmp_path: Path) -> None:
    output = run("quickstart", str(coloured(tmp_path / "few", each=6)), "--artifacts", str(served), "--encoder", "none")
    assert "2 validation pictures are few to choose by" in output
    assert "3 test pictures say little" in output
    assert "it is larger than the pictures that it was made from" in output


def test_a_bundle_that_is_there_is_replaced_only_on_request(
    served: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (served / "bundles").mkdir()
    (served / "bundles" / "no-folder.safetensors").write_bytes(b"")
    said = refused("quickstart", str(tmp_path / "no-folder"), "--artifacts", str(served))
    assert "no-folder.safetensors already exists; choose another --name" in said


@pytest.mark.parametrize("name", ["cat, tabby", "a:b", "two\u2003words"])
def test_a_class_name_that_cannot_be_a_label_is_refused_before_a_picture_is_decoded(
    served: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = picture_folder(tmp_path / "pets", name, "dog")
    monkeypatch.setattr("trainer.data.folders.folder_dataset.decode_file", None)  # calling it would be another error
    said = refused("quickstart", str(data), "--artifacts", str(served))
    assert "pets: the label" in said and "give the class another name" in said


@pytest.mark.parametrize("make", [bars_data, archives])
def test_pictures_of_a_fixed_size_need_no_image_size(
    served: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    output = run("quickstart", str(make(folder)), "--artifacts", str(served), "--encoder", "none")
    assert "image size" not in output and "pixels of 8x8" in output
