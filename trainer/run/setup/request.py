"""The request for a run, and the checks that refuse it before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidCheckpoint
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.spec import flattened
from trainer.output.places import check_name, check_place
from trainer.run.checkpoint import Checkpoint
from trainer.run.progress import RunLimits
from trainer.run.setup.starting_point import StartingPoint


@dataclass(frozen=True)
class DistillRequest:
    """Everything that `distill` is asked to do."""

    dataset: ImageDataset
    method: Method
    budget: MemoryBudget
    output: Path
    seed: int
    device: torch.device
    limits: RunLimits
    resume: bool
    begin: StartingPoint = StartingPoint()
    overwrite: bool = False

    def __post_init__(self) -> None:
        if (self.begin.bundle is None) == (self.method.start.kind == "bundle"):
            raise ValueError("name the bundle to start from: --start NAME.safetensors")

    def describe(self) -> dict[str, Any]:
        """The settings that identify the run. A checkpoint with other settings is refused."""
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.digest,
            **flattened(self.method, lambda name: name == "citation"),
            "memory.bases": self.budget.bases,
            "memory.rows": self.budget.rows,
            "start_sha256": self.start_sha256,
            "seed": self.seed,
            "outer_steps": self.limits.outer_steps,
            "minutes": self.limits.minutes,
            "validate_every": self.limits.validate_every,
            "validate_seconds": self.limits.validate_seconds,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
        }

    @cached_property
    def start_sha256(self) -> str | None:
        """The digest of the bundle that the run began from, also if OUTPUT replaced that bundle in the meantime.

        Raises InvalidCheckpoint if it can only be read from the checkpoint and the checkpoint is unreadable.
        """
        start = self.begin.bundle
        if start is None:
            return None
        before = start.manifest.provenance.hyper_parameters.get("start_sha256")
        if self.resume and before is not None and self._starts_from_output:
            if Checkpoint.load(self.checkpoint).run.get("start_sha256") == before:
                return str(before)
        return start.sha256

    @property
    def checkpoint(self) -> Path:
        return _checkpoint(self.output)

    @property
    def in_place(self) -> bool:
        """Whether OUTPUT is the bundle that the run continues. It then stays until there is a better one."""
        start = self.begin.bundle
        return start is not None and start.labels == self.dataset.classes and self._starts_from_output

    @property
    def _starts_from_output(self) -> bool:
        # Judged by what OUTPUT holds now: a resumed run finds its own latest version there, and must not undo it.
        return _holds(self.output, self.begin.bundle)


def check_output(output: Path, begin: StartingPoint, *, resume: bool, overwrite: bool) -> None:
    """The part of `check_nothing_is_lost` that needs no data, and that a bundle can be written there at all."""
    check_name(output)
    check_place(output)
    if resume:
        return
    checkpoint = _checkpoint(output)
    if checkpoint.exists():
        raise InvalidCheckpoint(
            f"{checkpoint.name} holds an unfinished run; go on with --resume, or delete it to start anew"
        )
    if output.exists() and not overwrite and not _holds(output, begin.bundle):
        raise _replaces(output)


def check_nothing_is_lost(request: DistillRequest) -> None:
    """Raise InvalidCheckpoint or ValueError if a checkpoint or bundle of another run would be overwritten."""
    check_output(request.output, request.begin, resume=request.resume, overwrite=request.overwrite)
    if not request.resume and request.output.exists() and not request.overwrite and not request.in_place:
        raise _replaces(request.output)


def _replaces(output: Path) -> ValueError:
    return ValueError(
        f"{output.name} exists already; go on from it with --start {output.name}, write to another --output, or "
        "replace it at once with --overwrite"
    )


def _checkpoint(output: Path) -> Path:
    return output.with_suffix(".checkpoint")


def _holds(output: Path, bundle: MemoryBundle | None) -> bool:
    """Whether the file is this bundle."""
    return bundle is not None and output.is_file() and MemoryBundle.load(output).sha256 == bundle.sha256
