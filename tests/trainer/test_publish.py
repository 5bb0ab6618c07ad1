"""Encoders on disk: what a bundle refers to is there, and what none refers to any more goes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from recall_server.bundle import MemoryBundle
from recall_server.familiarity import beside
from recall_server.manifest import EncoderReference
from tests.recall_server.bundle_examples import example_bundle
from trainer.publish import Draft, encoder_folder, encoder_of, publish


def draft(number: int, *, by_pictures: bool = True) -> Draft:
    bundle = example_bundle()
    encoder = f"encoder {number}".encode() if by_pictures else None
    if by_pictures:
        reference = EncoderReference(file=f"example-{number}.onnx", sha256=f"{number:064x}", query_size=3)
        manifest = bundle.manifest.model_copy(update={"queries": "images", "query_encoder": reference})
        bundle = replace(bundle, manifest=manifest)
    return Draft(bundle, bundle.to_bytes(), encoder)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A bundle with its encoder and what is known of it, published."""
    path = tmp_path / "bundles" / "example.safetensors"
    publish(draft(1), path)
    beside(encoders(path)[0]).write_bytes(b"known pictures")
    return path


def encoders(bundle: Path) -> list[Path]:
    return sorted(encoder_folder(bundle).iterdir())


def test_a_new_version_takes_the_encoder_of_the_one_before_with_it(output: Path) -> None:
    publish(draft(2), output)
    assert [path.name for path in encoders(output)] == ["example-2.onnx"]
    assert encoder_of(output) == encoders(output)[0]
    publish(draft(2), output)
    assert [path.name for path in encoders(output)] == ["example-2.onnx"], "the same encoder stays"
    publish(draft(3, by_pictures=False), output)
    assert encoders(output) == []
    assert encoder_of(output) is None


def test_an_encoder_that_a_copy_of_the_bundle_refers_to_stays(output: Path) -> None:
    copy = output.with_name("copy.safetensors")
    shutil.copy(output, copy)
    publish(draft(2), output)
    assert [path.name for path in encoders(output)] == ["example-1.known", "example-1.onnx", "example-2.onnx"]
    assert MemoryBundle.load(copy).manifest.query_encoder is not None


def test_nothing_goes_while_a_bundle_beside_cannot_be_read(output: Path) -> None:
    output.with_name("newer.safetensors").write_bytes(b"of another version")
    publish(draft(2), output)
    assert "example-1.onnx" in [path.name for path in encoders(output)]


def test_what_is_replaced_need_not_be_a_bundle(output: Path) -> None:
    output.write_bytes(b"no bundle")
    publish(draft(2), output)
    assert encoder_of(output) == encoder_folder(output) / "example-2.onnx"
