"""Objective specs of matching: which statistics of recalled and real items are compared, and at which networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recall_server.core.networks import AbstractNetwork, build_network
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.specs.objectives import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.precision import Precision, with_precision
from trainer.objectives.matching.features import DistributionMatching
from trainer.objectives.matching.networks import FreshNetworks

Count = Annotated[int, Field(ge=1)]


class MatchingSpec(ObjectiveSpec):
    """What every matching has: `real_per_class` real items of each class for an outer step.

    `rows_per_class` bounds the recalled items of each class (0: all). `augmentation` is drawn once for all items of a
    class, recalled and real ones alike.
    """

    real_per_class: Count = 256
    rows_per_class: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "float32"

    def built_network(self, problem: Problem) -> AbstractNetwork:
        """The network for all classes of the data set."""
        network = build_network(self.network, problem.dataset.image_shape, len(problem.dataset.classes))
        return with_precision(network, self.precision, problem.device)


class DistributionMatchingSpec(MatchingSpec):
    """Class means of features of random networks; see `trainer.objectives.matching.features`."""

    kind: Literal["distribution_matching"] = "distribution_matching"

    def build(self, problem: Problem) -> AbstractObjective:
        network = self.built_network(problem)
        return DistributionMatching(
            layer_features(network, problem.device),
            FreshNetworks(network),
            real_per_class=self.real_per_class,
            rows_per_class=self.rows_per_class,
            augmentation=AUGMENTATIONS[self.augmentation],
        )
