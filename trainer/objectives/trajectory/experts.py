"""Recorded training of networks on real items: the parameters before and after each epoch (experts).

A folder holds one safetensors file for each expert, `expert-000.safetensors` and so on, with the tensor `weights`
[epochs + 1, P] in float32 and its origin and training as JSON. Only the two epochs of a segment are read from a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import safetensors
import torch
from torch import Tensor

from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.tensor_file import canonical_json, pack
from recall_server.core.networks import AbstractNetwork, Parameters
from trainer.objectives.inner.packing import Packing

KEY, WEIGHTS = "expert", "weights"
RECORD = "record some with `recall-trainer record-experts`"


@dataclass(frozen=True)
class Origin:
    """The network and preprocessing of experts, their data set, and a digest of its training items."""

    network: str
    dataset: str
    training_sha256: str
    preprocessing: str

    def check(self, folder: Path, said: Mapping[str, Any]) -> None:
        """Raise ValueError, in one sentence, if the origin that a file in the folder states is another one."""
        others = f"the experts in {folder.name} are of"
        for field, what in (("network", "network"), ("dataset", "data set"), ("preprocessing", "preprocessing")):
            mine, theirs = getattr(self, field), said.get(field)
            if theirs != mine:
                raise ValueError(f"{others} the {what} {theirs}, not {mine}; use another folder, or {RECORD}")
        if said.get("training_sha256") != self.training_sha256:
            raise ValueError(f"{others} other training pictures; use the --seed of their recording, or {RECORD}")


class Segment(NamedTuple):
    """The parameters of an expert after some epoch, and some epochs later."""

    start: Parameters
    target: Parameters


@final
@dataclass(frozen=True, eq=False)
class Experts:
    """The experts of a folder. All `files` are of the same network, with `epochs` or more epochs."""

    network: AbstractNetwork
    files: tuple[Path, ...]
    epochs: int

    @classmethod
    def load(cls, folder: Path, network: AbstractNetwork, origin: Origin, epochs: int) -> Self:
        """The complete experts. Raises ValueError for none, for another origin, and for too few epochs."""
        files = tuple(path for path in sorted(folder.glob("expert-*.safetensors")) if number_of(path) is not None)
        if not files:
            raise ValueError(f"there are no experts in {folder}; {RECORD}")
        for path in files:
            said, shape = _about(path)
            origin.check(folder, said)
            if shape[0] <= epochs:
                raise ValueError(
                    f"{path.name} has {shape[0] - 1} epochs, but {epochs} are looked at; lower objective.latest_start "
                    f"or objective.expert_epochs, or {RECORD} of more epochs"
                )
        return cls(network, files, epochs)

    def first(self, count: int) -> Self:
        """The first `count` of them, or all if there are fewer."""
        return replace(self, files=self.files[:count])

    def draw(self, latest: int, epochs: int, generator: torch.Generator, device: torch.device) -> Segment:
        """A segment of a random expert, which starts after 0 to `latest` - 1 epochs and is `epochs` long."""
        path = self.files[int(torch.randint(len(self.files), (), generator=generator))]
        first = int(torch.randint(latest, (), generator=generator))
        packing = Packing(self.network)
        with safetensors.safe_open(path, framework="pt") as file:
            rows = file.get_slice(WEIGHTS)
            vectors: list[Tensor] = [rows[first], rows[first + epochs]]
        start, target = (packing.unpacked(vector.to(device)) for vector in vectors)
        return Segment(start, target)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"expert-{number:03}.safetensors"


def number_of(path: Path) -> int | None:
    """The number in the name of an expert's file; None for other names."""
    match = re.fullmatch(r"expert-(\d{3,})\.safetensors", path.name)
    return None if match is None else int(match.group(1))


def write_expert(path: Path, weights: Tensor, origin: Origin, training: Mapping[str, Any]) -> None:
    """Write weights [epochs + 1, P] atomically, with their origin and training."""
    text = canonical_json(asdict(origin) | {"training": dict(training)})
    write_atomically(path, pack({WEIGHTS: weights}, key=KEY, text=text))


def is_recorded(path: Path, origin: Origin, training: Mapping[str, Any]) -> bool:
    """Whether the expert exists. Raises ValueError if the file has another origin or training."""
    if not path.is_file():
        return False
    said, _ = _about(path)
    origin.check(path.parent, said)
    if said.get("training") != dict(training):
        raise ValueError(f"{path.name} in {path.parent.name} was trained in another way; record into another folder")
    return True


def read_weights(path: Path, origin: Origin, training: Mapping[str, Any]) -> Tensor | None:
    """The weights in a file; None if the file does not exist."""
    if not is_recorded(path, origin, training):
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        weights: Tensor = file.get_tensor(WEIGHTS)
    return weights


def _about(path: Path) -> tuple[dict[str, Any], list[int]]:
    """The origin and training in a file, and the shape of its weights. Raises ValueError for another kind of file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = json.loads((file.metadata() or {})[KEY])
            shape: list[int] = file.get_slice(WEIGHTS).get_shape()
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path.name} cannot be read as an expert: {error}") from error
    return said, shape
