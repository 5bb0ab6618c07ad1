"""Recording experts: networks are trained on the training items, and their parameters are saved after each epoch.

Training is SGD without momentum, as in trajectory matching (Cazenavette et al., 2022). With a `radius`, each step uses
the gradient of GSAM (Zhuang et al., 2022), which combines the gradients at the weights and at weights of higher loss
nearby. It leads to flat minima (Du et al., 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from recall_server.core.training.augmentation import augment
from trainer.objectives.inner.packing import Packing
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState
from trainer.objectives.trajectory.experts import Origin, is_recorded, path_of, read_weights, write_expert

TINY = 1e-12  # added to norms

Report = Callable[[int, int], None]  # the expert's number, and its epochs so far


@dataclass(frozen=True)
class ExpertTraining:
    """The training of experts. An epoch uses `items` random training items once (0: all of them).

    `radius` is the length of the step to a higher loss (0: none). `decomposed` is the share that is subtracted of the
    component of the first gradient orthogonal to the second.
    """

    epochs: int = 50
    items: int = 0
    batch: int = 256
    rate: float = 0.01
    augmentation: tuple[str, ...] = ()
    radius: float = 0.0
    decomposed: float = 0.4
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """The fields as plain data for JSON. They are the same for two recordings of the same experts."""
        return asdict(self) | {"augmentation": list(self.augmentation)}


@dataclass(frozen=True, eq=False)
class ExpertRecorder:
    """Trains experts on items [N, *shape] with labels [N]. The same seed gives the same experts."""

    step: AbstractInnerStep
    items: Tensor
    labels: Tensor
    origin: Origin
    training: ExpertTraining

    @staticmethod
    def missing(folder: Path, origin: Origin, training: ExpertTraining, count: int) -> list[int]:
        """The numbers of the experts to record. Raises ValueError for a folder of another origin or training."""
        return [
            number for number in range(count) if not is_recorded(path_of(folder, number), origin, training.describe())
        ]

    def record(self, folder: Path, count: int, report: Report = lambda number, epochs: None) -> None:
        """Write those of the first `count` experts that are not in the folder yet.

        An incomplete expert is saved after each epoch, and a later call continues it.
        """
        for number in self.missing(folder, self.origin, self.training, count):
            folder.mkdir(parents=True, exist_ok=True)
            self._record_one(path_of(folder, number), number, report)

    def _record_one(self, path: Path, number: int, report: Report) -> None:
        partial, packing = path.with_suffix(".partial"), Packing(self.step.network)
        told: Mapping[str, Any] = self.training.describe() | {"number": number}
        weights = read_weights(partial, self.origin, told)
        if weights is None:
            start = self.step.network.initialise(self._generator(number, 0))
            weights = packing.packed(start).unsqueeze(0)
        device = self.items.device
        while len(weights) <= self.training.epochs:
            parameters = packing.unpacked(weights[-1].to(device))
            parameters = self._epoch(parameters, self._generator(number, len(weights)))
            weights = torch.cat([weights, packing.packed(parameters).cpu().unsqueeze(0)])
            write_expert(partial, weights, self.origin, told)
            report(number, len(weights) - 1)
        write_expert(path, weights, self.origin, self.training.describe())
        partial.unlink()

    def _epoch(self, parameters: Parameters, generator: torch.Generator) -> Parameters:
        targets = torch.eye(self.step.network.classes, device=self.items.device)
        count = self.training.items or len(self.items)
        order = torch.randperm(len(self.items), generator=generator)[:count].to(self.items.device)
        for index in torch.split(order, self.training.batch):
            images = augment(self.items[index], self.training.augmentation, generator)
            found = self._direction(parameters, images, targets[self.labels[index]])
            parameters = {name: value - self.training.rate * found[name] for name, value in parameters.items()}
        return parameters

    def _direction(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Parameters:
        here = self._gradient(parameters, images, targets)
        if not self.training.radius:
            return here
        moved = uphill(parameters, here, self.training.radius)
        return decomposed(here, self._gradient(moved, images, targets), self.training.decomposed)

    def _gradient(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Parameters:
        still = {name: torch.zeros_like(value) for name, value in parameters.items()}
        zero = images.new_zeros(())
        return self.step.forward(TrainState(parameters, still, zero, zero), images, targets).velocity

    def _generator(self, number: int, epoch: int) -> torch.Generator:
        """A generator for each epoch of each expert, so that only the weights have to be saved between epochs."""
        return torch.Generator().manual_seed((self.training.seed * 1_000_003 + number) * 1_009 + epoch)


def uphill(parameters: Parameters, gradient: Parameters, radius: float) -> Parameters:
    """Weights w + radius w^2 g / ||w g||: adaptive sharpness-aware minimisation (Kwon et al., 2021)."""
    size = _norm({name: parameters[name] * value for name, value in gradient.items()})
    scale = radius / (size + TINY)
    return {name: value + scale * value.square() * gradient[name] for name, value in parameters.items()}


def decomposed(here: Parameters, there: Parameters, share: float) -> Parameters:
    """The gradient `there` minus `share` of the component of the gradient `here` that is orthogonal to it (GSAM)."""
    product = torch.stack([(here[name] * there[name]).sum() for name in here]).sum()
    along = product / (_norm(there).square() + TINY)
    return {name: there[name] - share * (here[name] - along * there[name]) for name in here}


def _norm(values: Parameters) -> Tensor:
    return torch.stack([value.square().sum() for value in values.values()]).sum().sqrt()
