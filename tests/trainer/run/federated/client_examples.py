"""Clients with features of length one around shared means, and their memories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, EncoderReference
from recall_server.core.preprocessing import Standardise
from tests.recall_server.bundle_examples import example_manifest
from trainer.run.federated.picture_counts import picture_counts
from trainer.starts.features.anchors import SETTING, Anchors
from trainer.starts.features.described_classes import best_exact
from trainer.starts.features.trained_features import Labelled

WIDTH = 32
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")
MEANS = torch.nn.functional.normalize(
    torch.rand(len(CLASSES), WIDTH, generator=torch.Generator().manual_seed(0)), dim=1
)
SPACE = Standardise(torch.zeros(WIDTH), torch.full((WIDTH,), WIDTH**-0.5))


def features(name: str, count: int, seed: int = 0) -> Tensor:
    """[count, D] of a class, in the space of memories."""
    label = CLASSES.index(name)
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(100 * seed + label))
    return WIDTH**0.5 * torch.nn.functional.normalize(MEANS[label] + 0.08 * noise, dim=1)


def labelled(pictures: dict[str, int], seed: int = 0) -> Labelled:
    """So many features of each class, labelled by its place in the dictionary."""
    own = [features(name, count, seed) for name, count in pictures.items()]
    labels = torch.arange(len(own)).repeat_interleave(torch.tensor([len(each) for each in own]))
    return Labelled(torch.cat(own), labels)


def client_bundle(
    pictures: dict[str, int],
    *,
    seed: int = 0,
    counted: bool = True,
    space: Standardise = SPACE,
    labels: tuple[str, ...] | None = None,
    anchors: Anchors | None = None,
    **changed: Any,
) -> MemoryBundle:
    """The memory of a client with so many pictures of each class; `labels` rename the classes."""
    data = labelled(pictures, seed)
    found = best_exact(data, data, space, len(pictures), numbers=10_000, anchors=anchors)
    fields: dict[str, Any] = {
        "labels": labels or tuple(pictures),
        "retraining": found.retraining,
        "space": "features",
        "feature_encoder": EncoderReference(file="e.onnx", sha256="0" * 64, query_size=WIDTH),
        "budget": Budget(images_per_class=100, numbers_stored=found.memory.stored_numbers(), dataset_bytes=64_000),
    }
    manifest = example_manifest(found.memory, found.preprocessing, **(fields | changed))
    said: dict[str, Any] = {} if anchors is None else {SETTING: anchors.sha256}
    if counted:
        said |= picture_counts(torch.bincount(data.labels, minlength=len(pictures)))
    provenance = manifest.provenance.model_copy(update={"hyper_parameters": said})
    manifest = manifest.model_copy(update={"provenance": provenance})
    return MemoryBundle(manifest, found.memory, found.preprocessing)


def write_clients(folder: Path, **bundles: MemoryBundle) -> Path:
    for name, bundle in bundles.items():
        bundle.save(folder / f"{name}.safetensors")
    return folder
