"""One run in several processes: each computes some of the losses of an outer step, and the gradients are averaged.

All processes are started by torchrun, make the same memory from the same seed and draw the same numbers, so they hold
the same state after every step. Only the first one writes files. `--set outer.draws=8` asks for eight losses in an
outer step, each on its own real pictures; four ranks then compute two each. The result depends on the number of draws,
not on the number of ranks, up to the order in which gradients are added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as distributed
from torch import Tensor


@final
@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from process `number` of `count`, which computes on `device`."""

    device: torch.device
    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes, reports, and decides for all."""
        return self.number == 0

    def share(self, draws: int) -> range:
        """Which of the draws this process computes. Raises ValueError if they cannot be shared evenly."""
        if draws % self.count:
            raise ValueError(
                f"{draws} draws cannot be shared by {self.count} processes; use --set outer.draws="
                f"{self.count * -(-draws // self.count)}"
            )
        each = draws // self.count
        return range(self.number * each, (self.number + 1) * each)

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over all processes."""
        if self.count == 1:
            return
        found = list(tensors)
        row = torch.cat([tensor.flatten() for tensor in found])  # one message for all tensors
        distributed.all_reduce(row)
        for tensor, part in zip(found, torch.split(row, [tensor.numel() for tensor in found]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The values of the first process."""
        if self.count == 1:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(row, src=0)
        said: list[float] = row.tolist()
        return said

    def wait(self) -> None:
        """Wait until all processes get here."""
        self.all_reduce([torch.zeros(1, device=self.device)])


ALONE = Processes(torch.device("cpu"))


def process_is_first() -> bool:
    """Whether this process was started as the first of torchrun, or without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """The number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks(device: torch.device) -> Iterator[Processes]:
    """The processes of torchrun. They talk over NCCL if each has its own GPU, else over gloo."""
    if processes() == 1:
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
