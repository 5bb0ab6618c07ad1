"""A budget in bytes: the largest memory whose whole file, with header and manifest, fits.

The length of a manifest depends on its content, so drafts of files are measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from recall_server.core.memory import Storage
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.starts import NoiseStart
from trainer.run.progress import RunLimits, RunState
from trainer.run.publisher import Publisher
from trainer.run.setup.build import fit_preprocessing
from trainer.run.setup.request import DistillRequest

RESERVED = 1_024  # bytes that the manifest may grow by during a run: its curve, times and accuracy
NUMBER_BYTES: dict[Storage, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
SCALE_BYTES = 4


@dataclass(frozen=True)
class ByteBudget:
    """A budget of `file_bytes` for a bundle called `name`, made from this data set by this method on `device`."""

    file_bytes: int
    name: str
    device: torch.device
    dataset: ImageDataset
    method: Method

    @cached_property
    def preprocessing(self) -> AbstractPreprocessing:
        return fit_preprocessing(self.dataset, self.method)

    def fit(self, bases: int, rows: int | None) -> MemoryBudget:
        """The budget with `rows`, or with as many as fit. Raises ValueError, with the largest K that fits."""
        bases = self.method.memory.size(bases)
        room, multiple = self.file_bytes - RESERVED, self.method.memory.multiple()
        least = self._measure(bases, rows or multiple)
        if least > room:
            raise ValueError(self._refusal(bases, rows or multiple, least))
        if rows is None:
            times = 1 + (room - least) // (self._measure(bases, 2 * multiple) - least)
            while self._measure(bases, times * multiple) > room:  # the digits of numbers make a manifest longer
                times -= 1
            while self._measure(bases, (times + 1) * multiple) <= room:
                times += 1
            rows = times * multiple
        return self._budget(bases, rows)

    def candidates(self, shares: Iterable[float]) -> list[MemoryBudget]:
        """Budgets whose bases take these shares of the available bytes, in this order."""
        fixed = self._measure(1, 1) - self._basis_bytes(1)
        stored = self.method.memory.stored_numbers(self.method.shape(self.dataset))
        basis = stored * NUMBER_BYTES[self.method.memory.storage]
        counts = (int(share * (self.file_bytes - RESERVED - fixed) / basis) for share in shares)
        return [self.fit(count, None) for count in dict.fromkeys(max(1, min(stored, count)) for count in counts)]

    def _refusal(self, bases: int, rows: int, needed: int) -> str:
        what = f"{rows} stored images of each class" if bases == 0 else f"{bases} bases and {rows} rows"
        sentence = f"{what} take a file of {needed + RESERVED} bytes, more than {self.file_bytes}"
        if bases == 0:
            return f"{sentence}; allow more bytes, or store bases"
        basis = self._basis_bytes(rows)
        most = max(0, (self.file_bytes - RESERVED - needed + bases * basis) // basis)
        # The digits of fewer bases make a shorter manifest.
        while most > 0 and self._measure(most, rows) > self.file_bytes - RESERVED:
            most -= 1
        while self._measure(most + 1, rows) <= self.file_bytes - RESERVED:
            most += 1
        if most > 0:
            return f"{sentence}; try with at most {most} bases"
        return f"{sentence}; all but the memory takes {needed + RESERVED - bases * basis} of them, so allow more bytes"

    def _basis_bytes(self, rows: int) -> int:
        """Bytes of one basis and its coefficients."""
        shape, spec = self.method.shape(self.dataset), self.method.memory
        numbers = spec.stored_numbers(shape) + rows * shape.query_size
        return numbers * NUMBER_BYTES[spec.storage] + (2 * SCALE_BYTES if spec.storage == "int8" else 0)

    def _budget(self, bases: int, rows: int) -> MemoryBudget:
        stored = self.method.memory.numbers(self.method.shape(self.dataset), bases, rows)
        images_per_class = stored / (len(self.dataset.classes) * self.dataset.image_numbers)
        return MemoryBudget(images_per_class, bases, rows, self.file_bytes)

    def _measure(self, bases: int, rows: int) -> int:
        """Bytes of the file of such a memory at the start of a run."""
        budget = MemoryBudget(self._budget(bases, rows).images_per_class, bases, rows)
        generator, cpu = torch.Generator().manual_seed(0), torch.device("cpu")
        problem = Problem(self.dataset, self.preprocessing, generator, cpu)
        components = self.method.model_copy(update={"start": NoiseStart()}).build(problem, budget)
        output, limits = Path(f"{self.name}.safetensors"), RunLimits(0)
        request = DistillRequest(self.dataset, self.method, budget, output, 0, self.device, limits, resume=False)
        return len(Publisher(request, components, self.preprocessing).draft(components.tensors(), RunState()).data)
