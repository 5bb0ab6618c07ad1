"""Several processes, one run: each computes some of the losses of an outer step, and their gradients are averaged.

Started by torchrun, every process makes the same memory from the same seed and draws the same numbers, so that all of
them hold the same state after every step; the first one alone writes. `--set outer.draws=8` asks for eight losses
an outer step, each with real pictures of its own, and four ranks train two of them each. What a run learns depends on
the number of draws, not on the number of ranks, up to the order in which gradients are added.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
import torch.distributed as distributed
from torch import Tensor


class AbstractProcesses(ABC):
    """The processes of a run, seen from one of them: `number` of `count`, and the `device` that it computes on."""

    number: int
    count: int
    device: torch.device

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

    @abstractmethod
    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Each tensor becomes the sum of those of all ranks, in place."""

    @abstractmethod
    def broadcast(self, values: Sequence[float]) -> list[float]:
        """What the first rank says."""

    def wait(self) -> None:
        """Until all ranks are here."""
        self.all_reduce([torch.zeros(1, device=self.device)])

    @abstractmethod
    def close(self) -> None:
        """Nothing is added or agreed on any more."""


@final
@dataclass(frozen=True)
class SingleProcess(AbstractProcesses):
    """One process."""

    device: torch.device
    number: int = 0
    count: int = 1

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """They are sums already."""

    def broadcast(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def close(self) -> None:
        """There is nobody to take leave of."""


@final
class Torchrun(AbstractProcesses):
    """The processes that torchrun started: by NCCL where each has a GPU, by gloo on processors."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.number, self.count = distributed.get_rank(), distributed.get_world_size()

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        found = list(tensors)
        row = torch.cat([tensor.flatten() for tensor in found])  # one message, not one for each tensor
        distributed.all_reduce(row)
        for tensor, part in zip(found, torch.split(row, [tensor.numel() for tensor in found]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, values: Sequence[float]) -> list[float]:
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(row, src=0)
        said: list[float] = row.tolist()
        return said

    def close(self) -> None:
        distributed.destroy_process_group()


ALONE = SingleProcess(torch.device("cpu"))


def process_is_first() -> bool:
    """Whether this process is the one that speaks: it was not started by torchrun, or as the first."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks(device: torch.device) -> Iterator[AbstractProcesses]:
    """Those of torchrun, where it started this process; with GPUs each of them gets its own."""
    group = Torchrun(device) if processes() > 1 else SingleProcess(device)
    try:
        yield group
    finally:
        group.close()
