"""Several processes, one run: each computes some of the losses of an outer step, and their gradients are averaged.

Started by torchrun, every process makes the same memory from the same seed and draws the same numbers, so that all of
them hold the same state after every step; the first one alone writes. `--set outer.draws=8` asks for eight losses
an outer step, each with real pictures of its own, and four ranks train two of them each. What a run learns depends on
the number of draws, not on the number of ranks, up to the order in which gradients are added.
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
    """The processes of a run, seen from one of them: `number` of `count`, and the `device` that it computes on."""

    device: torch.device
    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes, reports and decides what all must agree on."""
        return self.number == 0

    def share(self, draws: int) -> range:
        """Which of so many losses this one computes; ValueError where they cannot be shared out evenly."""
        if draws % self.count:
            raise ValueError(
                f"{draws} draws cannot be shared by {self.count} processes; use --set outer.draws="
                f"{self.count * -(-draws // self.count)}"
            )
        each = draws // self.count
        return range(self.number * each, (self.number + 1) * each)

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes the sum of those of all processes, in place."""
        if self.count == 1:
            return
        found = list(tensors)
        row = torch.cat([tensor.flatten() for tensor in found])  # one message, not one for each tensor
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
        """Until all processes are here."""
        self.all_reduce([torch.zeros(1, device=self.device)])


ALONE = Processes(torch.device("cpu"))


def process_is_first() -> bool:
    """Whether this process is the one that speaks: it was not started by torchrun, or as the first."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks(device: torch.device) -> Iterator[Processes]:
    """Those of torchrun, where it started this process: by NCCL where each has a GPU of its own, else by gloo."""
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
