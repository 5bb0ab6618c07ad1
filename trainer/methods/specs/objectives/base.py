"""What every objective spec has, and the spec of no objective."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.augmentation import AugmentationName
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Spec
from trainer.objectives.attacks import AbstractAttack, NoAttack
from trainer.objectives.base import AbstractObjective
from trainer.objectives.untrained import Untrained


class ObjectiveSpec(Spec):
    """What all objectives have: a `network` and an `augmentation`, which networks of validation use too."""

    noun: ClassVar[str] = "objective"
    requires: ClassVar[frozenset[str]] = frozenset()  # required traits of the memory
    network: NetworkSpec = NetworkSpec()
    augmentation: AugmentationName = "none"

    @abstractmethod
    def build(self, problem: Problem) -> AbstractObjective:
        """The objective on the problem's device."""

    def validation_attack(self) -> AbstractAttack:
        """What validation does to pictures in pixel space, so that the best memory is the best for this objective."""
        return NoAttack()


class NoObjectiveSpec(ObjectiveSpec):
    """Nothing is trained: the memory stays as it starts. `network` is that of validation."""

    kind: Literal["none"] = "none"

    def build(self, problem: Problem) -> AbstractObjective:
        return Untrained()
