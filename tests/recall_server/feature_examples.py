"""Memories of features: what an encoder says of pictures of the three columns."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, EncoderReference
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import StoredItems
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.library import Library
from tests.recall_server.bundle_examples import example_manifest
from tests.recall_server.serving_examples import COLUMNS, ROWS, SIDE, column_encoder, picture

HEAD = Retraining(network=NetworkSpec(architecture="linear"), steps=30, learning_rate=0.3, rows_per_class=ROWS)
FILE = "features.onnx"


def feature_bundle(name: str, labels: dict[str, str], encoder: QueryEncoder, **changed: Any) -> MemoryBundle:
    """A memory of the columns in `labels`, each under the name that it maps to."""
    pixels = np.stack([picture(column, seed) for column in labels for seed in range(ROWS)])[:, None]
    features = torch.from_numpy(encoder.encode(pixels.astype(np.float32) / 255))
    preprocessing = Standardise.fit(features[:, :, None, None])
    items = preprocessing.to_model(features[:, :, None, None])[:, :, 0, 0].unflatten(0, (len(labels), ROWS))
    memory = StoredItems(items)
    fields = {
        "name": name,
        "labels": tuple(labels.values()),
        "retraining": HEAD,
        "space": "features",
        "feature_encoder": EncoderReference(file=FILE, sha256=encoder.sha256, query_size=encoder.query_size),
        "budget": Budget(images_per_class=10, numbers_stored=memory.stored_numbers(), dataset_bytes=64_000),
    }
    return MemoryBundle(example_manifest(memory, preprocessing, **(fields | changed)), memory, preprocessing)


def write_feature_artifacts(folder: Path, *bundles: tuple[str, dict[str, str]], size: int = len(COLUMNS)) -> Path:
    """An artifacts folder with an encoder of the columns and a memory for each (name, labels)."""
    data = column_encoder(size=size)
    (folder / "encoders").mkdir(parents=True, exist_ok=True)
    (folder / "encoders" / FILE).write_bytes(data)
    encoder = QueryEncoder(
        folder / "encoders" / FILE, hashlib.sha256(data).hexdigest(), image_shape=(1, SIDE, SIDE), device="cpu"
    )
    for name, labels in bundles:
        feature_bundle(name, labels, encoder).save(folder / "bundles" / f"{name}.safetensors")
    return folder


def feature_library(folder: Path, *bundles: tuple[str, dict[str, str]]) -> Library:
    library = Library.load(write_feature_artifacts(folder, *bundles), device="cpu")
    assert library.rejected == ()
    return library
