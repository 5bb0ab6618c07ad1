"""Turns learned tensors into files: the bundle, and the encoder beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.describe import describe, made_now
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.bundle.manifest import EncoderReference, Provenance, RunProgress, ValidationPoint
from recall_server.core.io.atomic import write_atomically
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.device import device_name
from trainer.objectives.components import Components
from trainer.run.progress import RunState
from trainer.run.setup.request import DistillRequest

LONGEST_CURVE = 10_000  # most points of a curve in a manifest
FEWEST_POINTS = 3  # fewest points of a curve that is thinned to fit a budget in bytes


@dataclass(frozen=True)
class PreparedBundle:
    """A bundle as read from its own bytes, and the ONNX file of its encoder if pictures address it."""

    bundle: MemoryBundle
    data: bytes
    encoder: bytes | None


class Publisher:
    """Writes the versions of a run's bundle; each replaces the one before."""

    def __init__(self, request: DistillRequest, components: Components, preprocessing: AbstractPreprocessing) -> None:
        self.request, self.components, self.preprocessing = request, components, preprocessing
        self._encoder: Path | None = None
        start = request.begin.bundle
        started = None if start is None else start.manifest.query_encoder
        self._of_start = None if started is None else started.file

    def __call__(self, tensors: Mapping[str, Tensor], progress: RunState) -> None:
        """Write the encoder, then the bundle. Raises StorageFailed if that fails; the version before then stays."""
        draft, output = self.draft(tensors, progress), self.request.output
        reference = draft.bundle.manifest.query_encoder
        if draft.encoder is None or reference is None:
            write_atomically(output, draft.data)
            return
        written = encoder_folder(output) / reference.file
        write_atomically(written, draft.encoder)
        write_atomically(output, draft.data)
        if self._encoder not in (None, written):
            self._encoder.unlink(missing_ok=True)  # no bundle refers to it any more
        # The first version of a continued run has the encoder of its start, which may be the same file.
        self._encoder = None if reference.file == self._of_start else written

    def draft(self, tensors: Mapping[str, Tensor], progress: RunState) -> PreparedBundle:
        """What would be written. Raises ValueError or InvalidBundle, in one sentence, for what could not be loaded."""
        request, components, name = self.request, self.components, self.request.output.stem
        tensors = {key: value.detach().cpu() for key, value in tensors.items()}
        memory = components.memory_of(tensors)
        described = {"bundle": name, "dataset": request.dataset.name}
        encoder, reference = components.queries.export(tensors, self.preprocessing, described), None
        if encoder is not None:
            digest = hashlib.sha256(encoder).hexdigest()
            # The name contains the digest, so that a new encoder never replaces one that an older bundle refers to.
            reference = EncoderReference(file=f"{name}-{digest[:8]}.onnx", sha256=digest, query_size=memory.query_size)
        manifest = describe(
            name,
            memory,
            self.preprocessing,
            labels=request.dataset.classes,
            groups=request.dataset.groups,
            queries=components.queries.kind,
            query_encoder=reference,
            retraining=components.objective.retraining(request.method.retraining, tensors),
            images_per_class=request.budget.images_per_class,
            dataset_bytes=request.dataset.training_bytes,
            provenance=provenance(request, progress),
            progress=run_progress(progress),
        )
        data = MemoryBundle(manifest, memory, self.preprocessing, request.method.memory.storage).to_bytes()
        if request.budget.file_bytes is not None:
            data = _within(request.budget.file_bytes, data, MemoryBundle.from_bytes(data))
        return PreparedBundle(MemoryBundle.from_bytes(data), data, encoder)


def check_writable(output: Path, check: PreparedBundle) -> None:
    """Raise StorageFailed, before hours of work, if a file of this size cannot be written beside OUTPUT."""
    if output.is_dir():
        raise ValueError(f"--output must name a file, but {output.name} is a folder")
    folders = [output.parent] if check.encoder is None else [output.parent, encoder_folder(output)]
    for folder in folders:
        probe = folder / f".{output.name}.tmp"
        write_atomically(probe, check.data + (check.encoder or b""))
        probe.unlink()


def _within(most: int, data: bytes, bundle: MemoryBundle) -> bytes:
    """The file with as many points of its validation curve as fit. The first, last and best points are kept.

    Raises ValueError if the file is still larger than `most` bytes.
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


def run_progress(progress: RunState) -> RunProgress:
    """The validation curve as it is stored in the manifest."""
    points = [
        ValidationPoint(outer_steps=point.step, minutes=round(point.seconds / 60, 3), accuracy=point.accuracy)
        for point in progress.history[-LONGEST_CURVE:]
    ]
    return RunProgress(
        version=max(1, progress.version), minutes=round(progress.seconds / 60, 3), validation=tuple(points)
    )


def provenance(request: DistillRequest, progress: RunState) -> Provenance:
    """The origin of a bundle as it is stored in the manifest."""
    budget, dataset = request.budget, request.dataset
    size = {"memory.bases": budget.bases, "memory.rows": budget.rows, "minutes": request.limits.minutes}
    optional = {"start_sha256": request.start_sha256, "file_bytes": budget.file_bytes}
    given = {name: value for name, value in optional.items() if value is not None}
    return made_now(
        dataset=dataset.name,
        dataset_sha256=dataset.digest,
        dataset_licence=dataset.licence,
        method=request.method.name,
        hyper_parameters=request.method.flat() | size | given,
        seed=request.seed,
        outer_steps=progress.step,
        seconds=round(progress.seconds, 1),
        device=device_name(request.device),
    )
