"""Memories of toy pictures for a real server: two that labels address, with and without bases, one that pictures do."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.memory import StoredItems
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from tests.recall_server.bundle_examples import example_bundle, example_manifest

SIDE = 8
LABELS = ("left", "right", "middle")


def toy_pictures(label: str, count: int, *, seed: int) -> numpy.ndarray:
    """Grey pictures uint8 [count, SIDE, SIDE] with a bright column where the label says, and noise all over."""
    pictures = numpy.random.default_rng(seed).integers(0, 100, (count, SIDE, SIDE), dtype=numpy.uint8)
    column = {"left": 1, "right": SIDE - 2, "middle": SIDE // 2}[label]
    pictures[:, :, column] = 255
    return pictures


def label_bundle(schedule: Callable[[Retraining], Retraining] = lambda usual: usual) -> MemoryBundle:
    """A memory of the toy pictures as they are; `schedule` may change how classifiers are trained from it."""
    pixels = torch.from_numpy(numpy.stack([toy_pictures(label, 6, seed=1) for label in LABELS])[:, :, None] / 255.0)
    preprocessing = Standardise.fit(pixels.flatten(0, 1))
    memory = StoredItems(preprocessing.to_model(pixels.flatten(0, 1)).unflatten(0, (len(LABELS), 6)).float())
    groups = {"edges": ("left", "right")}
    manifest = example_manifest(memory, preprocessing, name="columns", labels=LABELS, groups=groups)
    manifest = manifest.model_copy(update={"retraining": schedule(manifest.retraining)})
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)


def picture_bundle(folder: Path) -> MemoryBundle:
    """A memory that pictures address, and its encoder in `folder`: an untrained network, as good here as any."""
    bundle = example_bundle()
    network = build_network(
        NetworkSpec(filters=4, depth=2), image_shape=(1, SIDE, SIDE), classes=bundle.memory.query_size
    )
    parameters = network.initialise(torch.Generator().manual_seed(3))
    encoder = export_network(network, parameters, bundle.preprocessing, (1, SIDE, SIDE), output="queries", metadata={})
    (folder / "toy.onnx").write_bytes(encoder)
    reference = EncoderReference(
        file="toy.onnx", sha256=sha256(encoder).hexdigest(), query_size=bundle.memory.query_size
    )
    manifest = example_manifest(
        bundle.memory, bundle.preprocessing, name="by-picture", queries="images", labels=LABELS, query_encoder=reference
    )
    return MemoryBundle(manifest=manifest, memory=bundle.memory, preprocessing=bundle.preprocessing)


def toy_artifacts(folder: Path) -> Path:
    """Write three bundles and an alias into `folder`, and return it."""
    (folder / "aliases.json").write_text('{"links": "left"}')
    (folder / "bundles").mkdir()
    (folder / "encoders").mkdir()
    label_bundle().save(folder / "bundles" / "columns.safetensors")
    picture_bundle(folder / "encoders").save(folder / "bundles" / "by-picture.safetensors")
    example_bundle(name="bases", labels=("one", "two", "three")).save(folder / "bundles" / "bases.safetensors")
    return folder
