"""The objective spec of label distillation."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat

from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.inner.steps.step import soft_cross_entropy
from trainer.objectives.unrolled.steps_ahead import StepsAhead


class StepsAheadSpec(ObjectiveSpec):
    """`steps` ahead of networks that train on the memory continuously; see `trainer.objectives.unrolled.steps_ahead`.

    `networks` of them take turns. Each trains for `longest` steps of Adam at `learning_rate` and is then replaced.
    `eager` disables the compilation of steps of networks other than ConvNets.
    """

    kind: Literal["steps_ahead"] = "steps_ahead"
    steps: Count = 1
    rate: PositiveFloat = 0.01
    batch: Count = 50
    real_batch: Count = 1_024
    networks: Count = 1
    learning_rate: PositiveFloat = 1e-3
    longest: Count = 200
    eager: bool = False

    def build(self, problem: Problem) -> AbstractObjective:
        network = problem.network(self.network)
        pool = NetworkPool(network, self.networks, self.learning_rate, self.longest, self.batch, soft_cross_entropy)
        return self.make(StepsAhead, step=inner_step(network, problem.device, compiled=not self.eager), pool=pool)
