"""Memories of features: what an encoder says of pictures of the three columns."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, EncoderReference, Manifest
from recall_server.core.encoders.description import DESCRIPTION_KEY, EncoderDescription
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import AbstractMemory, DescribedClasses, StoredItems
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.library import Library
from tests.recall_server.bundle_examples import example_manifest
from tests.recall_server.serving_examples import COLUMNS, ROWS, SIDE, column_encoder, picture
from trainer.starts.features.described_classes import described_classes
from trainer.starts.features.trained_features import Labelled

HEAD = Retraining(network=NetworkSpec(architecture="linear"), steps=30, learning_rate=0.3, rows_per_class=ROWS)
FILE = "features.onnx"


def feature_bundle(name: str, labels: dict[str, str], encoder: QueryEncoder, **changed: Any) -> MemoryBundle:
    """A memory of the columns in `labels`, each under the name that it maps to."""
    pixels = np.stack([picture(column, seed) for column in labels for seed in range(ROWS)])[:, None]
    features = torch.from_numpy(encoder.encode(pixels.astype(np.float32) / 255))
    preprocessing = Standardise.fit(features[:, :, None, None])
    items = preprocessing.to_model(features[:, :, None, None])[:, :, 0, 0].unflatten(0, (len(labels), ROWS))
    memory = StoredItems(items)
    manifest = _manifest(name, tuple(labels.values()), memory, preprocessing, encoder.sha256)
    return MemoryBundle(manifest.model_copy(update=changed), memory, preprocessing)


def statistics_bundle(
    classes: int, width: int, sha256: str = "0" * 64, *, name: str = "statistics"
) -> tuple[MemoryBundle, Tensor]:
    """A memory that says how `classes` of random features vary, and the means [classes, width] of these classes."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(50 * classes) % classes
    features = torch.randn(classes, width, generator=generator)[labels]
    features += torch.rand(width, generator=generator) * torch.randn(len(labels), width, generator=generator)
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(classes)])
    memory = statistics_memory(features, labels, classes)
    preprocessing = Standardise(torch.zeros(width), torch.ones(width))
    names = tuple(f"class {label}" for label in range(classes))
    return MemoryBundle(_manifest(name, names, memory, preprocessing, sha256), memory, preprocessing), means


def statistics_memory(features: Tensor, labels: Tensor, classes: int) -> DescribedClasses:
    """A memory that describes the classes of features [N, D] with labels [N] along D bases."""
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(classes)])
    head = means - means.mean(dim=0)
    return described_classes(Labelled(features, labels), head, bases=features.shape[1], centres=1)


def _manifest(
    name: str, labels: tuple[str, ...], memory: AbstractMemory, preprocessing: Standardise, sha256: str
) -> Manifest:
    return example_manifest(
        memory,
        preprocessing,
        name=name,
        labels=labels,
        retraining=HEAD,
        space="features",
        feature_encoder=EncoderReference(file=FILE, sha256=sha256, query_size=memory.item_shape[0]),
        budget=Budget(images_per_class=10, numbers_stored=memory.stored_numbers(), dataset_bytes=64_000),
    )


def write_feature_artifacts(
    folder: Path, *bundles: tuple[str, dict[str, str]], size: int = len(COLUMNS), encoder: bytes | None = None
) -> Path:
    """An artifacts folder with an encoder of the columns and a memory for each (name, labels)."""
    data = encoder or column_encoder(size=size)
    (folder / "encoders").mkdir(parents=True, exist_ok=True)
    (folder / "encoders" / FILE).write_bytes(data)
    network = QueryEncoder(
        folder / "encoders" / FILE, hashlib.sha256(data).hexdigest(), image_shape=(1, SIDE, SIDE), device="cpu"
    )
    for name, labels in bundles:
        feature_bundle(name, labels, network).save(folder / "bundles" / f"{name}.safetensors")
    return folder


def knowing_artifacts(folder: Path, *known: str, encoder: bytes | None = None) -> Path:
    """An artifacts folder with a memory of these columns that says how they vary."""
    data = encoder or soft_encoder()
    (folder / "encoders").mkdir(parents=True, exist_ok=True)
    (folder / "encoders" / FILE).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    network = QueryEncoder(folder / "encoders" / FILE, sha256, image_shape=(1, SIDE, SIDE), device="cpu")
    pixels = np.stack([picture(column, seed) for column in known for seed in range(40)])[:, None]
    features = torch.from_numpy(network.encode(pixels.astype(np.float32) / 255))
    labels = torch.arange(len(known)).repeat_interleave(40)
    memory = statistics_memory(features, labels, len(known))
    space = Standardise(torch.zeros(features.shape[1]), torch.ones(features.shape[1]))
    bundle = MemoryBundle(_manifest("knowing", known, memory, space, sha256), memory, space)
    bundle.save(folder / "bundles" / "knowing.safetensors")
    return folder


def soft_encoder() -> bytes:
    """The encoder of columns, without the sharpness that makes all features of a class the same."""
    model = onnx.load_model_from_string(column_encoder())
    sharpness = next(each for each in model.graph.initializer if each.name == "sharpness")
    sharpness.CopyFrom(onnx.numpy_helper.from_array(np.array(3, dtype=np.float32), "sharpness"))
    return bytes(model.SerializeToString())


def described(encoder: bytes, size: int = SIDE) -> bytes:
    """The encoder with a description."""
    model = onnx.load_model_from_string(encoder)
    width = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    text = EncoderDescription(name="columns", size=size, width=width, source="a test", licence="none")
    onnx.helper.set_model_props(model, {DESCRIPTION_KEY: text.model_dump_json()})
    return bytes(model.SerializeToString())


def feature_library(folder: Path, *bundles: tuple[str, dict[str, str]]) -> Library:
    library = Library.load(write_feature_artifacts(folder, *bundles), device="cpu")
    assert library.rejected == ()
    return library


def few_sparse_features(seed: int) -> Tensor:
    """Twelve features [12, 150] with many zeros. Of half of the seeds, float32 does not decompose the moments."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(12, 2, generator=generator) @ torch.randn(2, 150, generator=generator)
    return (factors - 3).relu().square()
