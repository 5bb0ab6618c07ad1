"""Every named method as a small run that takes seconds; `small/` says how each is made small, by family."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from tests.trainer.methods.small.small import Small
from trainer.data.datasets import ImageDataset
from trainer.methods.method import Method
from trainer.methods.named import FAMILIES, compose
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import flattened
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits, RunState
from trainer.run.publisher import PreparedBundle, Publisher
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.run.setup.request import DistillRequest

CPU = torch.device("cpu")


def _small(family: ModuleType) -> dict[str, Small]:
    """How the methods of a family are made small: SMALL of the module of the same name in `small/`."""
    found: dict[str, Small] = import_module(f"tests.trainer.methods.small.{family.__name__.split('.')[-1]}").SMALL
    return found


EVERY_METHOD: dict[str, Small] = {name: small for family in FAMILIES for name, small in _small(family).items()}


def small_method(name: str, steps: int) -> Method:
    """The method made small, with so many outer steps if it takes any."""
    taken = [f"outer.steps={steps}"] if compose(name).outer.steps else []
    return compose(name, [*EVERY_METHOD[name].overrides, *taken])


def distinct() -> list[str]:
    """The methods without those whose small run is that of one before: `dc-small`, made smaller still, is `dc`."""
    first: dict[str, str] = {}
    for name in EVERY_METHOD:
        fields = flattened(small_method(name, steps=2), lambda field: field in {"name", "citation"})
        first.setdefault(f"{fields} {EVERY_METHOD[name]}", name)
    return list(first.values())


class SmallRun:
    """One small run of a method over `dataset`, of `steps` outer steps (of a method that takes any)."""

    def __init__(
        self, name: str, dataset: ImageDataset, *, steps: int = 2, seed: int = 0, checkpoint: Path | None = None
    ) -> None:
        small, self.dataset, self.seed = EVERY_METHOD[name], dataset, seed
        self.method = small_method(name, steps)
        self.budget = self.method.budget(
            dataset, images_per_class=small.images_per_class, bases=small.bases, rows=small.rows
        )
        generator = torch.Generator().manual_seed(seed)
        self.fitted = fit_preprocessing(dataset, self.method)
        self.components = self.method.build(Problem(dataset, self.fitted, generator, CPU), self.budget)
        self.space = self.method.preprocessing.onto(self.components.memory, self.fitted)
        self.distillation = Distillation(
            self.components,
            self.method,
            run=flattened(self.method),
            limits=RunLimits(self.method.outer.steps, validate_every=10_000),
            generator=generator,
            checkpoint=checkpoint,
        )

    def go(self, **arguments: object) -> dict[str, Tensor]:
        """The learned tensors at the end."""
        return self.distillation.distill(real_data(self.dataset, self.fitted, CPU), **arguments)  # type: ignore[arg-type]

    def prepared(self) -> PreparedBundle:
        """The bundle of the components as they are."""
        output, limits = Path("small.safetensors"), RunLimits(0)
        request = DistillRequest(self.dataset, self.method, self.budget, output, self.seed, CPU, limits, resume=False)
        return Publisher(request, self.components, self.space).draft(self.components.tensors(), RunState())
