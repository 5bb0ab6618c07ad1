"""The command `add-class`: what it replaces, and what it refuses before it reads a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from tests.recall_server.bundle_examples import example_bundle
from tests.recall_server.feature_examples import knowing_artifacts
from tests.recall_server.serving_examples import COLUMNS, SIDE, picture, png
from tests.trainer.cli.test_command_line import run
from tests.trainer.data_examples import picture_folder


def test_add_class_replaces_another_bundle_only_on_request(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = picture_folder(tmp_path / "more", "lowest", each=3) / "lowest"
    path, other = tmp_path / "bars.safetensors", tmp_path / "other.safetensors"
    for each in (path, other):
        example_bundle().save(each)
    before = other.read_bytes()
    command = ["add-class", str(path), str(folder), "--output"]
    said = refused(*command, str(other))
    assert said == (
        "error: other.safetensors already exists; choose another --output, or replace it with --overwrite\n"
    )
    assert other.read_bytes() == before
    run(*command, str(other), "--overwrite")
    assert MemoryBundle.load(other).labels[-1] == "lowest"
    assert "already exists" in refused("add-class", str(path), str(folder))
    assert "Its accuracy is unknown." in run("add-class", str(path), str(folder), "--overwrite")
    assert MemoryBundle.load(path).labels[-1] == "lowest", "without --output the class is added to BUNDLE itself"


def test_a_memory_of_features_takes_up_a_class_through_its_encoder(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = knowing_artifacts(tmp_path / "served", "left", "middle")
    path, encoder = folder / "bundles" / "knowing.safetensors", folder / "encoders" / "features.onnx"
    one_step = MemoryBundle.load(path)
    schedule = one_step.manifest.retraining.model_copy(update={"steps": 1, "rows_per_class": 1, "momentum": 0.0})
    manifest = one_step.manifest.model_copy(update={"retraining": schedule})
    MemoryBundle(manifest, one_step.memory, one_step.preprocessing, "bfloat16").save(path)
    (tmp_path / "right").mkdir()
    for seed in range(10):
        (tmp_path / "right" / f"{seed}.png").write_bytes(png(picture("right", seed)))
    output = tmp_path / "elsewhere" / "more.safetensors"
    said = run("add-class", str(path), str(tmp_path / "right"), "--output", str(output))
    assert "3 labels" in said and "make it anew with quickstart" in said
    larger = MemoryBundle.load(output)
    assert larger.labels == ("left", "middle", "right")
    assert (larger.storage, larger.manifest.space) == ("bfloat16", "features")
    assert larger.manifest.retraining.steps == 1 and not larger.manifest.accuracy
    assert (tmp_path / "elsewhere" / "encoders" / "features.onnx").read_bytes() == encoder.read_bytes()
    shown = np.stack([picture(label, 99) for label in COLUMNS])[:, None].astype(np.float32) / 255
    features = torch.from_numpy(column_features(encoder, shown))
    vectors = larger.memory.items(torch.eye(3))[:, 0]
    assert (features @ (vectors - vectors.mean(dim=0)).T).argmax(dim=1).tolist() == [0, 1, 2]
    encoder.write_bytes(b"another")
    said = refused("add-class", str(path), str(tmp_path / "right"), "--name", "again", "--overwrite")
    assert "features.onnx" in said


def column_features(encoder: Path, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    data = encoder.read_bytes()
    return QueryEncoder(encoder, hashlib.sha256(data).hexdigest(), image_shape=(1, SIDE, SIDE), device="cpu").encode(
        pixels
    )
