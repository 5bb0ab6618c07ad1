"""A memory for each group of a data set's classes, distilled separately and kept in a folder.

The groups of CIFAR-100 are its 20 superclasses of five classes; other data sets are divided in the order of their
classes. An incomplete folder is completed: finished memories stay, and interrupted ones are resumed.
"""

from __future__ import annotations

import json
import multiprocessing
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.across import some_classes
from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.io.atomic import write_atomically
from trainer.cli import commands
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.methods.method import Method
from trainer.run.setup.request import DistillRequest

UNFINISHED = "unfinished"  # the sub-folder of memories that are being distilled
DESCRIPTION = "memories.json"  # the settings that all memories of a folder share


@dataclass(frozen=True)
class Recipe:
    """How each memory of a folder is distilled. `source` is the data set, as for `load_dataset`."""

    source: str
    method: Method
    images_per_class: float
    bases: int
    seed: int
    device: str
    validate_every: int = 500
    outer_steps: int | None = None
    minutes: float | None = None

    def describe(self, dataset: ImageDataset) -> dict[str, Any]:
        """The settings that identify a recipe, as JSON."""
        return {
            "dataset": dataset.name,
            "dataset_sha256": dataset.digest,
            "method": self.method.flat() | {"name": self.method.name},
            "images_per_class": self.images_per_class,
            "bases": self.bases,
            "seed": self.seed,
            "outer_steps": self.outer_steps,
            "minutes": self.minutes,
        }


def groups_of(dataset: ImageDataset, size: int) -> dict[str, tuple[str, ...]]:
    """The data set's own groups, or consecutive groups of `size` classes; a last group of one class is left out."""
    if dataset.groups:
        return dict(dataset.groups)
    cut = [dataset.classes[start : start + size] for start in range(0, len(dataset.classes), size)]
    return {f"group {number}": members for number, members in enumerate(cut) if len(members) > 1}


def memories(
    recipe: Recipe, dataset: ImageDataset, groups: Mapping[str, Sequence[str]], folder: Path, *, workers: int = 1
) -> dict[str, MemoryBundle]:
    """The memory of each group by its name; missing memories are distilled in `workers` parallel processes.

    Raises ValueError if the folder has memories of another recipe.
    """
    (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
    described, file = recipe.describe(dataset), folder / DESCRIPTION
    if file.exists() and json.loads(file.read_text()) != described:
        raise ValueError(f"{folder.name} has memories of another recipe, see its {DESCRIPTION}; choose another folder")
    write_atomically(file, json.dumps(described, indent=1).encode())
    files = {name: folder / f"{slug(name)}.safetensors" for name in groups}
    missing = [name for name in groups if not files[name].exists()]
    if workers > 1 and len(missing) > 1:
        # Small steps leave a GPU idle between kernels, so several processes share it.
        with ProcessPoolExecutor(min(workers, len(missing)), multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(distill_in_process, recipe, tuple(groups[name]), files[name]) for name in missing]
            for job in jobs:
                job.result()
    else:
        for name in missing:
            distill(recipe, dataset, tuple(groups[name]), files[name])
    return {name: MemoryBundle.load(path) for name, path in files.items()}


def distill(recipe: Recipe, dataset: ImageDataset, members: tuple[str, ...], path: Path) -> None:
    """Distill the pictures of these classes into `path`, which appears when it is finished."""
    unfinished = path.parent / UNFINISHED / path.name
    data = some_classes(dataset, [dataset.classes.index(member) for member in members])
    request = DistillRequest(
        # The digest is that of the whole data set; the labels say which part of it was used.
        dataset=data,
        method=recipe.method,
        budget=recipe.method.budget(data, images_per_class=recipe.images_per_class, bases=recipe.bases, rows=None),
        output=unfinished,
        seed=recipe.seed,
        device=commands.pick_device(recipe.device),
        limits=commands.limits_of(
            recipe.method,
            outer_steps=recipe.outer_steps,
            minutes=recipe.minutes,
            validate_every=recipe.validate_every,
        ),
        resume=unfinished.with_suffix(".checkpoint").exists(),
        overwrite=True,
    )
    bundle = commands.distill(request)
    progress = bundle.manifest.progress
    best = max((point.accuracy for point in progress.validation), default=0.0) if progress else 0.0
    unfinished.replace(path)
    seconds = bundle.manifest.provenance.seconds
    print(f"{path.stem}: {100 * best:.1f} % on validation pictures of its own classes, {seconds:.0f} s", flush=True)


def distill_in_process(recipe: Recipe, members: tuple[str, ...], path: Path) -> None:
    """Distill in a process of its own, which reads the data set once."""
    torch.set_num_threads(1)
    distill(recipe, _dataset(recipe.source), members, path)


_dataset = cache(load_dataset)


def slug(name: str) -> str:
    """A group's name as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
