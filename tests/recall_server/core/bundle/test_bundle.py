"""Bundles: what is saved is what is loaded, byte for byte, and nothing else is loaded at all."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from recall_server.core.bundle.bundle import METADATA_KEY, MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference, Manifest, MeasuredAccuracy
from recall_server.core.memory import AbstractMemory, AddressedBases, StoredItems
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Projected, Spectral, Standardise
from recall_server.errors import InvalidBundle, InvalidRequest, UnknownLabel, UnsupportedQuery
from tests.recall_server.bundle_examples import (
    example_bundle,
    example_manifest,
    example_memory,
    example_preprocessing,
    shares,
    with_soft_targets,
)
from tests.recall_server.feature_examples import write_feature_artifacts
from tests.tolerances import assert_close

MEMORIES = [
    example_memory(),
    StoredItems(torch.randn(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1))),
    StoredItems(torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1)), height=8, width=8),
]
PREPROCESSINGS = [
    example_preprocessing(),
    ZCA.fit(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(2)), directions=6),
    Spectral.fit(torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(2))),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "example.safetensors"


def replaced(bundle: MemoryBundle, memory: AbstractMemory) -> MemoryBundle:
    return MemoryBundle(bundle.manifest, memory, bundle.preprocessing)


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: memory.kind)
@pytest.mark.parametrize("preprocessing", PREPROCESSINGS, ids=lambda preprocessing: preprocessing.kind)
def test_a_loaded_bundle_is_the_saved_one_to_the_last_bit(
    memory: AbstractMemory, preprocessing: AbstractPreprocessing, path: Path
) -> None:
    saved = MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing).save(path)
    loaded = MemoryBundle.load(path, expected_sha256=saved.sha256)
    queries = loaded.label_queries(loaded.labels)
    recalled = loaded.memory.items(queries)
    assert torch.equal(recalled, memory.items(queries))
    assert torch.equal(
        loaded.preprocessing.to_pixels(recalled.flatten(0, 1)), preprocessing.to_pixels(recalled.flatten(0, 1))
    )
    assert loaded.manifest == saved.manifest
    assert (loaded.sha256, loaded.file_bytes) == (saved.sha256, saved.file_bytes)


def projected_bundle() -> MemoryBundle:
    memory, standard = example_memory(), Standardise(torch.tensor([0.4]), torch.tensor([0.2]))
    preprocessing = Projected.onto(memory.span(), standard)
    return MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing)


def test_the_directions_of_a_projection_are_not_stored_because_they_follow_from_the_bases(path: Path) -> None:
    bundle = projected_bundle()
    bundle.save(path)
    assert set(safetensors.torch.load_file(path)) == {
        "bases", "addressing", "preprocessing.mean", "preprocessing.deviation", "preprocessing.rest",
    }  # fmt: skip
    pixels = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    assert torch.equal(MemoryBundle.load(path).preprocessing.to_model(pixels), bundle.preprocessing.to_model(pixels))


def test_a_projection_onto_anything_but_the_bases_is_refused() -> None:
    bundle, memory = projected_bundle(), example_memory()
    others = replace(memory, bases=memory.bases.flip(3) + torch.rand(memory.bases.shape))
    with pytest.raises(InvalidBundle, match="projects onto the span of other bases than those of the memory"):
        MemoryBundle(bundle.manifest, others, bundle.preprocessing)
    pixels = MEMORIES[1]
    with pytest.raises(InvalidBundle, match="a memory stored_items has no bases that pictures could be projected onto"):
        MemoryBundle(example_manifest(pixels, bundle.preprocessing), pixels, bundle.preprocessing)


def test_soft_targets_are_saved_counted_and_restricted_to_the_requested_labels(path: Path) -> None:
    bundle = with_soft_targets(example_bundle())
    loaded = bundle.save(path)
    assert torch.equal(shares(loaded), shares(bundle))
    assert loaded.to_bytes() == path.read_bytes()
    pair = loaded.memory.targets.among(loaded.label_queries(["class 2", "class 0"]))[:, 0]
    own, other = shares(bundle)[2, 2], shares(bundle)[2, 0]
    assert_close(pair[0], torch.stack([own, other]) / (own + other), terms=3)


def test_soft_targets_need_a_memory_that_labels_address() -> None:
    bundle = with_soft_targets(example_bundle())
    manifest = bundle.manifest.model_copy(update={"queries": "images"})
    with pytest.raises(InvalidBundle, match="soft targets are of memories that labels address"):
        MemoryBundle(manifest, bundle.memory, bundle.preprocessing)


def test_a_saved_bundle_knows_its_file(path: Path) -> None:
    unsaved = example_bundle()
    saved = unsaved.save(path)
    assert (unsaved.sha256, unsaved.file_bytes) == (None, None)
    assert saved.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert saved.file_bytes == path.stat().st_size


def test_the_same_content_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    provenance = example_bundle().manifest.provenance
    reordered = dict(reversed(provenance.hyper_parameters.items()))
    assert list(reordered) != list(provenance.hyper_parameters)
    other = example_bundle(provenance=provenance.model_copy(update={"hyper_parameters": reordered}))
    assert other.to_bytes() == example_bundle().to_bytes()


def test_saving_what_was_loaded_gives_the_same_file_again(path: Path, tmp_path: Path) -> None:
    example_bundle().save(path)
    MemoryBundle.load(path).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_the_file_is_laid_out_as_specified() -> None:
    """artifacts/README.md, read with nothing but struct and json."""
    bundle = example_bundle()
    data = bundle.to_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    text = header.pop("__metadata__")[METADATA_KEY]
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "addressing": ("F32", [2, 3, 4]),
        "bases": ("F32", [4, 1, 4, 4]),
        "preprocessing.deviation": ("F32", [1]),
        "preprocessing.mean": ("F32", [1]),
    }
    begin, end = header["preprocessing.mean"]["data_offsets"]
    assert data[8 + length :][begin:end] == struct.pack("<f", 0.3)
    manifest = json.loads(text)
    assert text == json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert manifest["provenance"]["hyper_parameters"]["note"] == "grün"
    assert manifest["labels"] == ["class 0", "class 1", "class 2"]


def test_the_format_page_names_every_key_and_every_choice_of_a_manifest() -> None:
    page = (Path(__file__).parents[4] / "artifacts" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[A-Za-z0-9_+-]+", " ".join(re.findall(r"`[^`\n]+`", page))))
    assert not set(_keys_and_choices(Manifest.model_json_schema())) - named


def _keys_and_choices(schema: Any) -> Iterator[str]:
    """The names of all properties, and all values of enumerations, in a JSON schema."""
    if isinstance(schema, list):
        for each in schema:
            yield from _keys_and_choices(each)
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (choice for choice in schema.get("enum", ()) if isinstance(choice, str))
        yield from _keys_and_choices(list(schema.values()))


def test_the_example_of_the_format_page_reads_a_bundle(path: Path) -> None:
    """artifacts/README.md shows how to read a bundle without this project: run what it shows."""
    page = (Path(__file__).parents[4] / "artifacts" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    bundle = example_bundle().save(path)
    names: dict[str, Any] = {}
    exec(example.replace("artifacts/bundles/fashion-mnist.safetensors", str(path)).replace("Bag", "class 1"), names)
    memory = replace(example_memory(), height=4, width=4)  # as stored, not enlarged
    recalled = memory.items(bundle.label_queries(["class 1"]))[0]
    assert_close(torch.from_numpy(names["images"]), recalled, terms=4)


def test_integers_and_floats_of_the_manifest_keep_their_type(path: Path) -> None:
    """1, 1.0 and true are different texts, so they must be different values, or loading and saving would drift."""
    example_bundle().save(path)
    parameters = MemoryBundle.load(path).manifest.provenance.hyper_parameters
    assert {name: type(value) for name, value in parameters.items()} == {
        "bases": int,
        "learning_rate": float,
        "note": str,
        "schedule": type(None),
        "whitened": bool,
    }


def test_memories_in_training_are_saved_as_float32(path: Path) -> None:
    memory = example_memory()
    leaves = {name: tensor.double().requires_grad_() for name, tensor in memory.tensors().items()}
    replaced(example_bundle(), memory.replace(leaves)).save(path)
    assert path.read_bytes() == example_bundle().to_bytes()


def test_tensors_that_share_their_numbers_can_be_saved(path: Path) -> None:
    memory, shared = example_memory(), torch.full((1,), 0.5)
    preprocessing = Standardise(mean=shared, deviation=shared)
    MemoryBundle(example_manifest(memory, preprocessing), memory, preprocessing).save(path)
    assert MemoryBundle.load(path).preprocessing.tensors() == {"mean": shared, "deviation": shared}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, path: Path) -> None:
    bundle = example_bundle()
    tensors = bundle.memory.tensors() | {
        f"preprocessing.{name}": tensor for name, tensor in bundle.preprocessing.tensors().items()
    }
    halved = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    path.write_bytes(safetensors.torch.save(halved, metadata={METADATA_KEY: bundle.manifest.to_json()}))
    loaded = MemoryBundle.load(path)
    for name, tensor in loaded.memory.tensors().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, halved[name].float())


def test_label_queries_are_one_hot_in_the_order_asked_for() -> None:
    queries = example_bundle().label_queries(["class 2", "class 0", "class 2"])
    assert queries.dtype == torch.float32
    assert queries.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_an_unknown_label_is_answered_with_the_nearest_ones() -> None:
    bundle = example_bundle(labels=("Sneaker", "Sandal", "Bag"))
    with pytest.raises(UnknownLabel, match="did you mean 'Sneaker'") as refusal:
        bundle.label_queries(["Bag", "Sneakers"])
    assert refusal.value.suggestions == ["Sneaker"]


def test_label_queries_need_a_label() -> None:
    with pytest.raises(InvalidRequest, match="one label or more is needed"):
        example_bundle().label_queries([])


def image_addressed(query_size: int = 3) -> dict[str, Any]:
    encoder = EncoderReference(file="encoder.onnx", sha256="0" * 64, query_size=query_size)
    return {"queries": "images", "query_encoder": encoder}


def test_a_memory_addressed_by_pictures_refuses_labels() -> None:
    bundle = example_bundle(**image_addressed())
    with pytest.raises(UnsupportedQuery, match="the memory 'example' is addressed by pictures, not by labels"):
        bundle.label_queries(["class 0"])


def test_queries_of_pictures_may_be_longer_than_the_labels(path: Path) -> None:
    memory, preprocessing = example_memory(labels=16), example_preprocessing()
    manifest = example_manifest(memory, preprocessing, labels=("a", "b"), **image_addressed(16))
    MemoryBundle(manifest, memory, preprocessing).save(path)
    assert MemoryBundle.load(path).memory.query_size == 16


def test_features_are_recalled_as_images_of_one_pixel(tmp_path: Path) -> None:
    write_feature_artifacts(tmp_path, ("columns", {"left": "left", "right": "right"}))
    bundle = MemoryBundle.load(tmp_path / "bundles" / "columns.safetensors")
    queries = bundle.label_queries(["right"])
    items = bundle.memory.items(queries)
    (width,) = bundle.memory.item_shape
    assert torch.equal(bundle.recall(queries).items, items[..., None, None])
    assert torch.equal(bundle.recall_lazily(queries).items[:], items[..., None, None])
    pixels = bundle.preprocessing.to_pixels(items.reshape(-1, width, 1, 1))
    assert torch.equal(bundle.recall_pixels(queries)[0], pixels)


def test_with_accuracy_replaces_the_old_measurements(path: Path) -> None:
    row = MeasuredAccuracy(
        network="convnet:filters=128,depth=3", protocol="retraining", runs=5, mean=0.85, spread=0.003, data="test set"
    )
    saved = example_bundle().with_accuracy([row, row]).save(path)
    measured = saved.with_accuracy([row])
    assert (measured.sha256, measured.file_bytes) == (None, None), "its file is yet to be written"
    measured.save(path)
    assert MemoryBundle.load(path).manifest.accuracy == (row,)


def test_a_bundle_does_not_copy_its_memory() -> None:
    """Saving copies; a trainer goes on with the very tensors that it optimises."""
    memory = example_memory()
    assert isinstance(memory, AddressedBases)
    assert replaced(example_bundle(), memory).memory is memory
