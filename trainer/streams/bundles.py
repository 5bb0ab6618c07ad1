"""A bundle for every task that has ended: what the server serves is what the buffer keeps."""

from __future__ import annotations

import datetime
from pathlib import Path

from pydantic import ValidationError

from recall_server import __version__
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import (
    Budget,
    ImageDescription,
    Manifest,
    MemoryDescription,
    Provenance,
    first_fault,
)
from recall_server.core.training.device import device_name
from trainer.streams.learners.compress import CompressThenRecall


def task_bundle(learner: CompressThenRecall, number: int, *, stream: str, licence: str, seconds: float) -> MemoryBundle:
    """The memory of a finished task. Where tasks share classes, a server tells them apart as `bundle:label`.

    `seconds` is what learning the stream took up to its end. Raises ValueError for names that no manifest takes.
    """
    memory, seen = learner.memory(number), learner.seen[number]
    header = seen.header
    channels, height, width = header.image_shape
    try:
        manifest = Manifest(
            name=header.name,
            memory=MemoryDescription(kind=memory.kind, settings=memory.settings()),
            queries="labels",
            labels=header.classes,
            image=ImageDescription(channels=channels, height=height, width=width),
            preprocessing=learner.preprocessing.kind,
            retraining=learner.recipe.retraining,
            budget=Budget(
                images_per_class=learner.buffer.share / (header.image_numbers * len(header.classes)),
                numbers_stored=memory.stored_numbers(),
                dataset_bytes=sum(seen.counts) * header.image_numbers,
            ),
            provenance=Provenance(
                dataset=f"{stream}, task {number} of {learner.buffer.tasks}: {sum(seen.counts)} samples seen once",
                dataset_sha256=seen.digest,
                dataset_licence=licence,
                method=f"compress-then-recall, {learner.recipe.name}",
                hyper_parameters=_plain(learner) | {"rows": memory.rows, "buffer_numbers": learner.buffer.capacity},
                seed=learner.seed,
                outer_steps=seen.outer_steps,
                seconds=round(seconds, 1),
                device=device_name(learner.device),
                code_version=__version__,
                date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            ),
        )
    except ValidationError as error:
        raise ValueError(f"a bundle cannot say this: {first_fault(error)}") from error
    return MemoryBundle(manifest, memory, learner.preprocessing)


def _plain(learner: CompressThenRecall) -> dict[str, str | int | float]:
    recipe = learner.recipe
    fields = {name: getattr(recipe, name) for name in type(recipe).model_fields if name not in ("name", "retraining")}
    return {key: value if isinstance(value, (str, int, float)) else str(value) for key, value in fields.items()}


def bundle_path(folder: Path, bundle: MemoryBundle) -> Path:
    """Where a bundle of a stream lies."""
    return folder / f"{bundle.manifest.name}.safetensors"
