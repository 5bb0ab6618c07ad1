"""Makes a bundle of every finished task's memory, so that a server can serve the buffer."""

from __future__ import annotations

from pathlib import Path

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.training.device import device_name
from trainer.streams.learners.compress import CompressThenRecall


def task_bundle(learner: CompressThenRecall, number: int, *, stream: str, licence: str, seconds: float) -> MemoryBundle:
    """The memory of a finished task. Where tasks share classes, a server tells them apart as `bundle:label`.

    `seconds` is what learning the stream took up to its end. Raises ValueError for names that no manifest takes.
    """
    memory, seen = learner.memory(number), learner.seen[number]
    header, samples = seen.header, sum(seen.counts)
    made = made_now(
        dataset=f"{stream}, task {number} of {learner.buffer.tasks}: {samples} samples seen once",
        dataset_sha256=seen.digest,
        dataset_licence=licence,
        method=f"compress-then-recall, {learner.method.name}",
        hyper_parameters=learner.method.flat() | {"rows": memory.rows, "buffer_numbers": learner.buffer.capacity},
        seed=learner.seed,
        outer_steps=seen.outer_steps,
        seconds=round(seconds, 1),
        device=device_name(learner.device),
    )
    manifest = describe(
        header.name,
        memory,
        learner.preprocessing,
        labels=header.classes,
        retraining=learner.method.retraining,
        images_per_class=learner.buffer.share / (header.image_numbers * len(header.classes)),
        dataset_bytes=samples * header.image_numbers,
        provenance=made,
    )
    return MemoryBundle(manifest, memory, learner.preprocessing)


def bundle_path(folder: Path, bundle: MemoryBundle) -> Path:
    """The path of a stream's bundle."""
    return folder / f"{bundle.manifest.name}.safetensors"
