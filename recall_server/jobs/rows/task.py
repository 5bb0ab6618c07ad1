"""A training task as one value that can be sent to another process. Equal tasks have equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import safetensors
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recall_server.core.classifier.familiarity import Familiarity
from recall_server.core.classifier.fresh_classifier import FAMILIARITY, FreshClassifier
from recall_server.core.io.storage_errors import storage_failure
from recall_server.core.io.tensor_file import FLOATS, FileLimits, pack, unpack, with_prefix
from recall_server.core.networks import Parameters
from recall_server.core.networks.kernels import prepare
from recall_server.core.preprocessing import PREPROCESSINGS, AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from recall_server.errors import NotFound
from recall_server.jobs.rows.code_version import training_code_version

METADATA_KEY = "training_task"
PREPROCESSING, PRETRAINED, INTERIM = "preprocessing.", "pretrained.", "interim"
UNLIMITED = FileLimits(file_bytes=2**62, header_bytes=2**62, numbers=2**62)  # requests are limited earlier

ProgressReport = Callable[[int, int, float], None]


class TaskDescription(BaseModel):
    """The part of a task that is not tensors. `metadata` is copied into the classifier's file, beside `trained_by`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    preprocessing: str
    retraining: Retraining
    seed: int
    metadata: dict[str, str]


@final
@dataclass(frozen=True, eq=False)
class TrainingTask:
    """Recalled images [k, r, C, H, W] in model space, the targets [k, k] of the queries, and how to train on them.

    `interim` is the file of a classifier to use until the training has ended, or empty. `pretrained` are the layers
    that the network begins with, or None for random ones. `familiarity` becomes that of the classifier.
    """

    images: Tensor
    targets: Tensor
    preprocessing: AbstractPreprocessing
    description: TaskDescription
    interim: bytes = b""
    pretrained: Parameters | None = None
    familiarity: Familiarity | None = None

    def train(self, *, device: str, progress: ProgressReport | None = None) -> bytes:
        """Train a fresh classifier and return its file. Raises TrainingFailed."""
        channels, height, width = self.images.shape[2:]
        classifier = FreshClassifier(
            self.description.labels,
            (channels, height, width),
            self.preprocessing,
            self.description.retraining,
            seed=self.description.seed,
            device=device,
        )
        classifier.fit(self.images, self.targets, pretrained=self.pretrained, progress=progress)
        classifier.familiarity = self.familiarity
        return classifier.to_bytes(self.description.metadata | {"trained_by": code_of(device)})

    def to_bytes(self) -> bytes:
        """The task as one safetensors file."""
        tensors = {"images": self.images, "targets": self.targets}
        tensors |= {f"{PREPROCESSING}{name}": tensor for name, tensor in self.preprocessing.tensors().items()}
        tensors |= {f"{PRETRAINED}{name}": tensor for name, tensor in (self.pretrained or {}).items()}
        if self.familiarity is not None:
            tensors |= {f"{FAMILIARITY}{name}": tensor for name, tensor in self.familiarity.tensors().items()}
        if self.interim:
            tensors[INTERIM] = torch.frombuffer(bytearray(self.interim), dtype=torch.uint8)
        return pack(tensors, key=METADATA_KEY, text=self.description.model_dump_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. Raises ValueError."""
        tensors, text = unpack(data, key=METADATA_KEY, limits=UNLIMITED, dtypes=FLOATS | {"U8"})
        description = TaskDescription.model_validate_json(text)
        preprocessing = PREPROCESSINGS[description.preprocessing].from_tensors(with_prefix(PREPROCESSING, tensors))
        familiarity = with_prefix(FAMILIARITY, tensors)
        return cls(
            images=tensors["images"],
            targets=tensors["targets"],
            preprocessing=preprocessing,
            description=description,
            interim=tensors[INTERIM].numpy().tobytes() if INTERIM in tensors else b"",
            pretrained=with_prefix(PRETRAINED, tensors) or None,
            familiarity=Familiarity.from_tensors(familiarity, len(description.labels)) if familiarity else None,
        )


def read_interim(path: Path) -> bytes:
    """The interim classifier in the file of a task, whose images are not read. Raises NotFound and StorageFailed."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            data: bytes = file.get_tensor(INTERIM).numpy().tobytes()
    except FileNotFoundError as error:
        raise NotFound(f"the task {path.stem} is gone") from error
    except OSError as error:
        raise storage_failure(f"the task {path.stem} cannot be read", error) from error
    return data


def code_of(device: str) -> str:
    """The code that trains on this device of this machine. Equal tasks give equal bytes where it is the same."""
    steps = "compiled kernels" if prepare() else "operations of torch"
    return (
        f"memory-recall {training_code_version()[:12]}, torch {torch.__version__}, {device.partition(':')[0]}, {steps}"
    )


def fingerprint(task: bytes) -> str:
    """The SHA-256 of everything that determines a classifier: the task with its seed, torch and the code that trains.

    Two tasks with the same fingerprint give the same classifier, but for the last bits between machines with a compiler
    and without: `trained_by` in the classifier's file says which one it was.
    """
    code = f"{training_code_version()} torch {torch.__version__}\n"
    return hashlib.sha256(code.encode() + task).hexdigest()
