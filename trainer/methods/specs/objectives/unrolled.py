"""Specs of performance matching: the inner training, the attack on pictures, and the unroll."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from recall_server.core.networks import NetworkSpec
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count, Spec, member_of
from trainer.objectives.attacks import AbstractAttack, NoAttack, ProjectedGradient
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.inner_training import AbstractInnerTraining, AdamTraining, Momentum, StepSizes
from trainer.objectives.inner.precision import Precision, with_precision
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.unrolled.subspace import SubspaceUnrolled
from trainer.objectives.unrolled.unrolled import Order, Unrolled, learned_rate


class InnerOptimiserSpec(Spec):
    """The training of inner networks."""

    noun: ClassVar[str] = "inner optimiser"

    @abstractmethod
    def build(self) -> AbstractInnerTraining:
        """The training."""


class InnerSgd(InnerOptimiserSpec):
    """SGD with momentum. With the gradient `forward`, momentum acts but is not differentiated."""

    kind: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    gradient: Literal["full", "forward"] = "full"

    def build(self) -> AbstractInnerTraining:
        return self.make(Momentum)


class InnerAdam(InnerOptimiserSpec):
    """Adam, as in RaT-BPTT (Feng et al., 2024)."""

    kind: Literal["adam"] = "adam"

    def build(self) -> AbstractInnerTraining:
        return AdamTraining()


class AttackSpec(Spec):
    """What the outer loss does to real pictures before networks see them."""

    noun: ClassVar[str] = "attack"
    streams: ClassVar[bool] = True

    @abstractmethod
    def build(self) -> AbstractAttack:
        """The attack in pixel space."""


class NoAttackSpec(AttackSpec):
    """Pictures stay as they are."""

    kind: Literal["none"] = "none"

    def build(self) -> AbstractAttack:
        return NoAttack()


class PgdSpec(AttackSpec):
    """Projected gradient ascent (Madry et al., 2018): no pixel, in 0..1, changes by more than `epsilon`."""

    kind: Literal["pgd"] = "pgd"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 8 / 255
    steps: Count = 3

    def build(self) -> AbstractAttack:
        return self.make(ProjectedGradient)


class PerformanceMatchingSpec(ObjectiveSpec):
    """Loss on real items of networks trained on recalled ones, through the last `window` of at most `steps` steps."""

    streams: ClassVar[bool] = True
    steps: Count = 60
    window: Count = 20
    rate: PositiveFloat = 0.02
    rows_per_class: Count = 3
    real_batch: Count = 256

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.window > self.steps:
            raise ValueError(f"a window of {self.window} is longer than the longest training of {self.steps} steps")
        return self


class UnrolledSpec(PerformanceMatchingSpec):
    """Inner training of any network on recalled items (`trainer.objectives.unrolled.unrolled`).

    With `learn_rate`, the step size is learned and recorded in the bundle's schedule; with `rate_per_step`, every step
    has its own. The order "sequence" takes rows one after another. `eager` disables compilation, which does not pay off
    in short runs. With an `attack`, the real items are adversarial pictures (docs/robustness.md).
    """

    kind: Literal["unrolled"] = "unrolled"
    learn_rate: bool = False
    rate_per_step: bool = False
    order: Order = "random"
    optimiser: Annotated[InnerOptimiserSpec, member_of(InnerOptimiserSpec)] = InnerSgd()
    classes_per_step: NonNegativeInt = 0  # 0: all of them
    precision: Precision = "float32"
    eager: bool = False
    attack: Annotated[AttackSpec, member_of(AttackSpec)] = NoAttackSpec()

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if self.classes_per_step == 1:
            raise ValueError("one class per step leaves nothing to tell apart; use 0 for all, or two or more")
        return self

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        plain = isinstance(self.optimiser, InnerSgd) and self.optimiser.gradient == "full"
        if self.rate_per_step and not (self.learn_rate and plain):
            raise ValueError("a rate for each step is learned, and of SGD; use learn_rate=true and optimiser=sgd")
        return self

    def build(self, problem: Problem) -> AbstractObjective:
        """The objective, with compiled steps if possible and not disabled."""
        total, device = len(problem.dataset.classes), problem.device
        if self.classes_per_step > total:
            raise ValueError(f"{self.classes_per_step} classes per step, but {problem.dataset.name} has {total}")
        network = with_precision(problem.network(self.network, self.classes_per_step), self.precision, device)
        steps = self.steps if self.rate_per_step else None
        return self.make(
            Unrolled,
            step=inner_step(network, device, compiled=not self.eager),
            augmentation=AUGMENTATIONS[self.augmentation],
            training=self._training(),
            log_rate=learned_rate(self.rate, device, steps) if self.learn_rate else None,
            attack=self.attack.build().in_space(problem.preprocessing),
        )

    def validation_attack(self) -> AbstractAttack:
        return self.attack.build()

    def _training(self) -> AbstractInnerTraining:
        if self.rate_per_step and isinstance(self.optimiser, InnerSgd):
            return StepSizes(self.optimiser.momentum)
        return self.optimiser.build()


class SubspaceUnrolledSpec(PerformanceMatchingSpec):
    """Inner training of an MLP in the span of the bases, on the CPU (`trainer.objectives.unrolled.subspace`)."""

    kind: Literal["subspace_unrolled"] = "subspace_unrolled"
    requires: ClassVar[frozenset[str]] = SubspaceUnrolled.requires
    network: NetworkSpec = NetworkSpec(architecture="mlp")
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    @model_validator(mode="after")
    def _check_network(self) -> Self:
        if self.network.architecture != "mlp" or self.augmentation != "none":
            raise ValueError(
                "only an mlp is trained in the span of the bases, without augmentation; use objective=unrolled"
            )
        return self

    def build(self, problem: Problem) -> AbstractObjective:
        return self.make(SubspaceUnrolled, network=problem.network(self.network))


ObjectivePart = Annotated[ObjectiveSpec, member_of(ObjectiveSpec)]
