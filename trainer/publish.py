"""From learned tensors to files: the bundle, and the encoder beside it."""

from __future__ import annotations

import datetime
import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from recall_server import __version__
from recall_server.atomic import write_atomically
from recall_server.bundle import MemoryBundle
from recall_server.manifest import Budget as StoredBudget
from recall_server.manifest import EncoderReference, ImageDescription, Manifest, MemoryDescription, Provenance
from recall_server.memory import AbstractMemory
from recall_server.onnx_export import export_network
from recall_server.preprocessing import AbstractPreprocessing
from trainer.compose import Budget
from trainer.datasets import ImageDataset
from trainer.distill import Progress
from trainer.learners import AbstractLearner, ImageLearner
from trainer.methods import Method


@dataclass(frozen=True)
class Made:
    """What a run made, besides the tensors: everything that the manifest says about where a bundle comes from."""

    dataset: ImageDataset
    method: Method
    budget: Budget
    seed: int
    progress: Progress
    device: torch.device


def publish(
    learner: AbstractLearner, tensors: dict[str, Tensor], preprocessing: AbstractPreprocessing, made: Made, output: Path
) -> MemoryBundle:
    """Write OUTPUT (a bundle) and, where pictures address it, its encoder to `../encoders` beside OUTPUT's folder."""
    tensors = {name: value.detach().cpu() for name, value in tensors.items()}
    memory = learner.memory.replace({name: tensors[name] for name in learner.memory.tensors()})
    model = None
    if isinstance(learner, ImageLearner):
        parameters = {name.removeprefix("encoder."): v for name, v in tensors.items() if name.startswith("encoder.")}
        model = export_network(
            learner.encoder,
            parameters,
            preprocessing,
            made.dataset.image_shape,
            output="queries",
            metadata={"bundle": output.stem, "dataset": made.dataset.name},
        )
        write_atomically(output.parent.parent / "encoders" / encoder_name(output), model)
    manifest = describe(memory, preprocessing, made, output, encoder=model)
    return MemoryBundle(manifest, memory, preprocessing).save(output)


def encoder_name(output: Path) -> str:
    return f"{output.stem}.onnx"


def describe(
    memory: AbstractMemory, preprocessing: AbstractPreprocessing, made: Made, output: Path, *, encoder: bytes | None
) -> Manifest:
    """The manifest of a bundle. Raises ValueError with one sentence where the format refuses it (a label, a name)."""
    channels, height, width = made.dataset.image_shape
    reference = None
    if encoder is not None:
        digest = hashlib.sha256(encoder).hexdigest()
        reference = EncoderReference(file=encoder_name(output), sha256=digest, query_size=memory.query_size)
    try:
        return Manifest(
            name=output.stem,
            memory=MemoryDescription(kind=memory.kind, geometry=memory.geometry()),
            queries=made.method.queries,
            labels=made.dataset.classes,
            image=ImageDescription(channels=channels, height=height, width=width),
            preprocessing=preprocessing.kind,
            retraining=made.method.retraining,
            query_encoder=reference,
            budget=StoredBudget(
                images_per_class=made.budget.images_per_class,
                numbers_stored=memory.stored_numbers(),
                dataset_bytes=made.dataset.training_bytes,
            ),
            provenance=provenance(made),
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "manifest"
        raise ValueError(f"a bundle cannot say this: {where}: {fault['msg']} (it is {fault['input']!r})") from error


def provenance(made: Made) -> Provenance:
    """Where a bundle comes from, in the manifest's words."""
    hyper_parameters = {
        key: value if isinstance(value, (str, int, float)) else str(value)
        for key, value in ((key, getattr(made.method, key)) for key in type(made.method).model_fields)
        if key not in ("name", "retraining")
    }
    return Provenance(
        dataset=made.dataset.name,
        dataset_sha256=made.dataset.digest,
        dataset_licence=made.dataset.licence,
        method=made.method.name,
        hyper_parameters=hyper_parameters | {"bases": made.budget.bases, "rows": made.budget.rows},
        seed=made.seed,
        outer_steps=made.progress.step,
        seconds=round(made.progress.seconds, 1),
        device=device_name(made.device),
        code_version=__version__,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def device_name(device: torch.device) -> str:
    """What a run is timed on, in words: the GPU's name, or the processor with the number of threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"
