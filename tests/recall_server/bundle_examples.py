"""A small, whole memory bundle for the tests that need one."""

from __future__ import annotations

from typing import Any

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, ImageDescription, Manifest, MemoryDescription, Provenance
from recall_server.core.memory import AbstractMemory, AddressedBases, Targets
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import AbstractPreprocessing, Standardise
from recall_server.core.training.retraining import Retraining


def example_memory(
    *, labels: int = 3, rows: int = 2, bases: int = 4, channels: int = 1, side: int = 8
) -> AddressedBases:
    """Random bases at half of `side`, always the same ones."""
    generator = torch.Generator().manual_seed(7)
    return AddressedBases(
        bases=torch.randn(bases, channels, side // 2, side // 2, generator=generator),
        addressing=torch.randn(rows, labels, bases, generator=generator),
        height=side,
        width=side,
    )


def example_preprocessing(channels: int = 1) -> Standardise:
    return Standardise(mean=torch.full((channels,), 0.3), deviation=torch.full((channels,), 0.25))


def example_manifest(memory: AbstractMemory, preprocessing: AbstractPreprocessing, **changed: Any) -> Manifest:
    """A manifest that tells the truth about the two, but for what is `changed`."""
    channels, height, width = memory.image_shape if len(memory.item_shape) == 3 else (1, 8, 8)
    fields: dict[str, Any] = {
        "name": "example",
        "memory": MemoryDescription(kind=memory.kind, settings=memory.settings()),
        "queries": "labels",
        "labels": tuple(f"class {index}" for index in range(memory.query_size)),
        "image": ImageDescription(channels=channels, height=height, width=width),
        "preprocessing": preprocessing.kind,
        "retraining": Retraining(
            network=NetworkSpec(filters=4, depth=2), steps=20, learning_rate=0.02, rows_per_class=2
        ),
        "budget": Budget(images_per_class=10, numbers_stored=memory.stored_numbers(), dataset_bytes=64_000),
        "provenance": Provenance(
            dataset="random numbers",
            dataset_sha256="0" * 64,
            dataset_licence="none",
            method="none",
            hyper_parameters={"bases": 4, "learning_rate": 1.0, "whitened": False, "note": "grün", "schedule": None},
            seed=7,
            outer_steps=0,
            seconds=0.1,
            device="cpu",
            code_version="0.1.0",
            date="2026-11-21",
        ),
    }
    return Manifest(**(fields | changed))


def example_bundle(**changed: Any) -> MemoryBundle:
    """Three labels, two rows each, grey images of 8x8; `changed` replaces keys of the manifest."""
    memory, preprocessing = example_memory(), example_preprocessing()
    return MemoryBundle(
        manifest=example_manifest(memory, preprocessing, **changed), memory=memory, preprocessing=preprocessing
    )


def with_soft_targets(bundle: MemoryBundle) -> MemoryBundle:
    """The same memory with random targets, most of each label its own."""
    labels = len(bundle.labels)
    noise = torch.rand(labels, labels, generator=torch.Generator().manual_seed(0))
    return with_targets(bundle, Targets("soft", (2 * torch.eye(labels) + noise).unsqueeze(1)))


def with_targets(bundle: MemoryBundle, targets: Targets) -> MemoryBundle:
    """The same memory with other targets."""
    memory = bundle.memory.with_targets(targets)
    budget = bundle.manifest.budget.model_copy(update={"numbers_stored": memory.stored_numbers()})
    description = MemoryDescription(kind=memory.kind, settings=memory.settings())
    manifest = bundle.manifest.model_copy(update={"budget": budget, "memory": description})
    return MemoryBundle(manifest, memory, bundle.preprocessing)


def shares(bundle: MemoryBundle) -> torch.Tensor:
    """The distribution over all labels [k, k] that the items of each label are paired with."""
    return bundle.memory.targets.among(torch.eye(len(bundle.labels)))[:, 0]
