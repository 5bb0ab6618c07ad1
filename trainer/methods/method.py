"""A method: a point of the grid memory x objective, composed of specs. It is plain data that builds its parts.

Every field can be set on the command line by its dotted name (`--set objective.window=30`), and the bundle's manifest
records every field.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from recall_server.core.memory import BASES, AbstractMemory
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.memories import MemoryPart, MemorySpec
from trainer.methods.specs.objectives.unrolled import ObjectivePart
from trainer.methods.specs.outer import Outer
from trainer.methods.specs.preprocessings import PreprocessingPart, StandardiseSpec
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.queries import LabelQueriesSpec, QueriesPart
from trainer.methods.specs.spec import Scalar, flattened
from trainer.methods.specs.starts import PrincipalStart, StartPart
from trainer.objectives.base import AbstractObjective
from trainer.objectives.components import Components

UNRECORDED = ("name", "citation", "retraining", "schedule")  # fields that manifests do not record as hyper-parameters


class Method(BaseModel):
    """One way to distill, with a `citation` of its source.

    `retraining` is the schedule that the bundle recommends to its users. A run that continues a bundle keeps the
    bundle's schedule, unless the method's schedule is "own".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    citation: str
    memory: MemoryPart
    queries: QueriesPart = LabelQueriesSpec()
    start: StartPart = PrincipalStart()
    preprocessing: PreprocessingPart = StandardiseSpec()
    objective: ObjectivePart
    outer: Outer
    retraining: Retraining
    schedule: Literal["start", "own"] = "start"

    @model_validator(mode="after")
    def _check(self) -> Method:
        self._check_traits()
        if self.queries.kind == "images" and self.memory.targets != "hard":
            raise ValueError(f"{self.memory.targets} targets are of memories that labels address; use queries=labels")
        if self.memory.targets == "soft" and not self.outer.steps and not self.start.gives_targets:
            raise ValueError("soft targets are learned by outer steps; a method without any has hard ones")
        if self.outer.steps and self.objective.kind == "none":
            raise ValueError("the objective none trains nothing; use outer.steps=0, or another objective")
        changes = self.outer.steps or self.start.kind != "principal" or self.queries.kind == "images"
        if self.preprocessing.kind == "projected" and changes:
            raise ValueError(
                "pictures are projected only onto bases that no step changes; use preprocessing=standardise"
            )
        self._check_encoder()
        return self

    def _check_traits(self) -> None:
        needs = {
            f"the objective {self.objective.kind}": self.objective.requires,
            f"start={self.start.kind}": self.start.traits,
        }
        for who, traits in needs.items():
            missing = sorted(traits - self.memory.memory.traits)
            if missing:
                able = [kind for kind in MemorySpec.kinds if traits <= MemorySpec.of_kind(kind).memory.traits]
                raise ValueError(
                    f"{who} needs a memory with {missing[0]}, which {self.memory.kind} is not; "
                    f"use memory={' or memory='.join(able) or 'another'}"
                )

    def _check_encoder(self) -> None:
        if self.queries.kind == "images":
            missing = {"bases", "linear"} - self.memory.memory.traits
            if missing:
                raise ValueError(f"pictures address a memory of bases, which {self.memory.kind} is not")
        fields = dict(self.queries)
        if self.start.kind == "bundle" and fields.get("pretraining_steps"):
            raise ValueError(
                "the encoder of a bundle has learned already; use queries.pretraining_steps=0 to go on from it"
            )
        if self.retraining.initial == "random":
            return
        if "encoder" not in fields:
            raise ValueError("networks begin with an encoder only where there is one; use queries=images")
        if not self.objective.network == self.retraining.network == fields["encoder"]:
            raise ValueError(
                f"networks that begin with the encoder must be like it: objective.network={self.objective.network}, "
                f"retraining.network={self.retraining.network} and queries.encoder={fields['encoder']} must be the same"
            )

    def varied(self, name: str | None = None, **sections: Any) -> Self:
        """The same method with other parts, each a whole spec or a dict of the fields that change."""
        changed = {
            part: getattr(self, part).model_copy(update=value) if isinstance(value, dict) else value
            for part, value in sections.items()
        }
        return type(self).model_validate(dict(self) | changed | ({} if name is None else {"name": name}))

    def shape(self, dataset: ImageDataset) -> MemoryShape:
        """What determines the size of a memory of this data set."""
        classes = len(dataset.classes)
        numbers = math.prod(dataset.image_shape)
        return MemoryShape(classes, self.queries.query_size(classes), dataset.image_shape, numbers)

    def budget(
        self, dataset: ImageDataset, *, images_per_class: float, bases: int, rows: int | None = None
    ) -> MemoryBudget:
        """The largest memory that fits this many images per class. Raises the errors of `MemoryBudget.fit`."""
        return MemoryBudget.fit(
            self.memory, self.shape(dataset), images_per_class=images_per_class, bases=bases, rows=rows
        )

    def images_with_targets(self, dataset: ImageDataset, images_per_class: float) -> float:
        """The budget in which as many items fit with their learned targets as fit with hard ones.

        The literature counts images only. A memory of bases fills the same budget with whatever it learns.
        """
        if self.memory.targets == "hard" or BASES in self.memory.memory.traits:
            return images_per_class
        shape = self.shape(dataset)
        pictures = shape.classes * shape.image_numbers
        hard = self.memory.model_copy(update={"targets": "hard"})
        rows = hard.largest(shape, images_per_class * pictures, 0)
        taken = self.memory.numbers(shape, 0, rows) / pictures
        return max(images_per_class, math.nextafter(taken, math.inf))  # so that times the pictures it is not less

    def build(self, problem: Problem, budget: MemoryBudget) -> Components:
        """The memory at its start, its queries and the objective, on the problem's device."""
        return self.components(self.start.memory(self.memory, self.shape(problem.dataset), budget, problem), problem)

    def components(
        self, memory: AbstractMemory, problem: Problem, objective: AbstractObjective | None = None
    ) -> Components:
        """This memory with its queries and the objective (built here by default), on the problem's device."""
        memory, queries = self.queries.build(
            memory,
            self.start,
            problem,
            augmentation=self.objective.augmentation,
            begins_networks=self.retraining.initial == "encoder",
        )
        placed = _on(problem, self.memory.finished(memory))
        return Components.of(placed, queries, objective or self.objective.build(problem))

    def flat(self) -> dict[str, Scalar]:
        """All hyper-parameters by their dotted names, as manifests record them."""
        return flattened(self, lambda name: name in UNRECORDED)


def _on(problem: Problem, memory: AbstractMemory) -> AbstractMemory:
    return memory.replace({name: value.to(problem.device) for name, value in memory.tensors().items()})
