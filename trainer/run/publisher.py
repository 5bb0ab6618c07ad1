"""From learned tensors to files: the bundle, and the encoder beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.manifest import EncoderReference, Provenance, RunProgress, ValidationPoint
from recall_server.core.io.atomic import write_atomically
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.device import device_name
from trainer.data.datasets import ImageDataset
from trainer.methods.budget import MemoryBudget
from trainer.methods.method import Method
from trainer.objectives.components import Components
from trainer.run.progress import RunState

LONGEST_CURVE = 10_000  # points that a manifest takes
FEWEST_POINTS = 3  # of a curve that is thinned so that the file keeps within its budget


@dataclass(frozen=True)
class RunRecord:
    """What a run made, besides the tensors: everything that the manifest says about where a bundle comes from."""

    dataset: ImageDataset
    method: Method
    budget: MemoryBudget
    seed: int
    progress: RunState
    device: torch.device
    minutes: float | None
    start_sha256: str | None = None


@dataclass(frozen=True)
class PreparedBundle:
    """A bundle as it reads back from its own bytes, and the encoder's ONNX file where pictures address it."""

    bundle: MemoryBundle
    data: bytes
    encoder: bytes | None


def prepare_bundle(
    components: Components,
    tensors: Mapping[str, Tensor],
    preprocessing: AbstractPreprocessing,
    made: RunRecord,
    name: str,
) -> PreparedBundle:
    """What `publish` would write. Raises ValueError or InvalidBundle, in one sentence, for what no reader takes."""
    tensors = {key: value.detach().cpu() for key, value in tensors.items()}
    memory = components.memory_of(tensors)
    encoder = components.queries.export(tensors, preprocessing, {"bundle": name, "dataset": made.dataset.name})
    reference = None
    if encoder is not None:
        digest = hashlib.sha256(encoder).hexdigest()
        # Named by its content, so that a new encoder never takes the place of the one an older bundle refers to.
        reference = EncoderReference(file=f"{name}-{digest[:8]}.onnx", sha256=digest, query_size=memory.query_size)
    retraining = components.objective.retraining(made.method.retraining, tensors)
    manifest = describe(
        name,
        memory,
        preprocessing,
        labels=made.dataset.classes,
        groups=made.dataset.groups,
        queries=components.queries.kind,
        query_encoder=reference,
        retraining=retraining,
        images_per_class=made.budget.images_per_class,
        dataset_bytes=made.dataset.training_bytes,
        provenance=provenance(made),
        progress=run_progress(made.progress),
    )
    data = MemoryBundle(manifest, memory, preprocessing, made.method.memory.storage).to_bytes()
    if made.budget.file_bytes is not None:
        data = _within(made.budget.file_bytes, data, MemoryBundle.from_bytes(data))
    return PreparedBundle(MemoryBundle.from_bytes(data), data, encoder)


def _within(most: int, data: bytes, bundle: MemoryBundle) -> bytes:
    """The file with as many points of its curve as fit: the first, the last, the best, and what lies between thinned.

    Raises ValueError where the file is larger than `most` bytes even so.
    """
    progress = bundle.manifest.progress
    while len(data) > most and progress is not None and len(progress.validation) > FEWEST_POINTS:
        curve = progress.validation
        best = max(range(len(curve)), key=lambda index: curve[index].accuracy)
        kept = sorted({*range(0, len(curve), 2), best, len(curve) - 1})
        if len(kept) == len(curve):
            kept = sorted({0, best, len(curve) - 1})
        progress = progress.model_copy(update={"validation": tuple(curve[index] for index in kept)})
        manifest = bundle.manifest.model_copy(update={"progress": progress})
        data = replace(bundle, manifest=manifest).to_bytes()
    if len(data) > most:
        raise ValueError(f"the bundle takes {len(data)} bytes, more than the {most} of its budget; allow fewer rows")
    return data


def publish(draft: PreparedBundle, output: Path) -> MemoryBundle:
    """Write the encoder, then the bundle that refers to it; StorageFailed where the disk does not take them."""
    reference = draft.bundle.manifest.query_encoder
    if draft.encoder is not None and reference is not None:
        write_atomically(encoder_folder(output) / reference.file, draft.encoder)
    write_atomically(output, draft.data)
    return draft.bundle


def run_progress(progress: RunState) -> RunProgress:
    """The curve so far, in the manifest's words."""
    points = [
        ValidationPoint(outer_steps=point.step, minutes=round(point.seconds / 60, 3), accuracy=point.accuracy)
        for point in progress.history[-LONGEST_CURVE:]
    ]
    return RunProgress(
        version=max(1, progress.version), minutes=round(progress.seconds / 60, 3), validation=tuple(points)
    )


def provenance(made: RunRecord) -> Provenance:
    """Where a bundle comes from, in the manifest's words."""
    start = {} if made.start_sha256 is None else {"start_sha256": made.start_sha256}
    size = {"memory.bases": made.budget.bases, "memory.rows": made.budget.rows, "minutes": made.minutes}
    limit = {} if made.budget.file_bytes is None else {"file_bytes": made.budget.file_bytes}
    return made_now(
        dataset=made.dataset.name,
        dataset_sha256=made.dataset.digest,
        dataset_licence=made.dataset.licence,
        method=made.method.name,
        hyper_parameters=made.method.flat() | size | start | limit,
        seed=made.seed,
        outer_steps=made.progress.step,
        seconds=round(made.progress.seconds, 1),
        device=device_name(made.device),
    )
