"""Merges the bundles of a folder, one for each client, and writes the bundle that knows all of their classes."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.manifest import Manifest
from recall_server.core.memory import Storage
from recall_server.core.training.device import device_name
from trainer.run.federated.clients import Client
from trainer.run.federated.merging import Merged, merge
from trainer.run.federated.picture_counts import LONGEST

CITATION = "one round of memories; compare Luo et al., 'No fear of heterogeneity' (NeurIPS 2021)"


def federate(clients: Sequence[Client], output: Path, *, seed: int = 0) -> MemoryBundle:
    """Merge the clients' memories, and write the bundle. Equal files and seeds give equal tensors.

    The encoder's file is not written: it must lie in the folder of encoders that a server reads.
    """
    started = time.monotonic()
    merged = merge(clients, seed=seed)
    storages = {client.bundle.storage for client in clients}
    storage: Storage = storages.pop() if len(storages) == 1 else "float32"
    manifest = _describe(clients, merged, output.stem, seed, time.monotonic() - started)
    return MemoryBundle(manifest, merged.memory, merged.step.preprocessing, storage).save(output)


def weighting(clients: Sequence[Client]) -> str:
    """How the clients' shares in a class are found, as a clause."""
    if all(client.counts is not None for client in clients):
        return "weighted by their numbers of pictures"
    return "weighted equally, since not all manifests say how many pictures there were"


def _describe(clients: Sequence[Client], merged: Merged, name: str, seed: int, seconds: float) -> Manifest:
    first = clients[0].bundle.manifest
    digests = [str(client.bundle.sha256) for client in clients]
    licences = dict.fromkeys(client.bundle.manifest.provenance.dataset_licence for client in clients)
    names = ", ".join(client.name for client in clients)
    size = max(client.bundle.manifest.budget.images_per_class for client in clients)
    needed = merged.memory.stored_numbers() / (len(merged.labels) * math.prod(first.image.shape))
    return describe(
        name,
        merged.memory,
        merged.step.preprocessing,
        labels=merged.labels,
        retraining=merged.step.retraining,
        images_per_class=max(size, needed),
        dataset_bytes=sum(client.bundle.manifest.budget.dataset_bytes for client in clients),
        space="features",
        feature_encoder=first.feature_encoder,
        image=first.image,
        provenance=made_now(
            dataset=f"{len(clients)} clients: {names}"[:LONGEST],
            dataset_sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
            dataset_licence="; ".join(licences)[:LONGEST],
            method="federated",
            hyper_parameters={
                "citation": CITATION,
                "clients": len(clients),
                "weighting": weighting(clients),
                "bases": len(merged.memory.bases),
                "centres": len(merged.memory.centres),
            },
            seed=seed,
            outer_steps=0,
            seconds=round(seconds, 1),
            device=device_name(torch.device("cpu")),
        ),
    )
