"""Objective specs of matching: the statistics of recalled and real items that are compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.objectives.networks import NetworksSpec, RecalledNetworksSpec, SteadyNetworksSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count, member_of
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.precision import Precision, with_precision
from trainer.objectives.inner.steps.select_step import LARGE_PARTS, inner_step
from trainer.objectives.matching.activations import Activations
from trainer.objectives.matching.alignment import FeatureAlignment
from trainer.objectives.matching.distances import Distance, Layers
from trainer.objectives.matching.features import DistributionMatching
from trainer.objectives.matching.gradients import GradientMatching
from trainer.objectives.matching.networks import FreshNetworks


class MatchingSpec(ObjectiveSpec):
    """What all matching objectives have: `real_per_class` real items of each class per outer step.

    `rows_per_class` limits the recalled items of each class (0: all). `augmentation` is drawn once per class, for
    recalled and real items alike.
    """

    real_per_class: Count = 256
    rows_per_class: NonNegativeInt = 0
    precision: Precision = "float32"

    def built_network(self, problem: Problem) -> AbstractNetwork:
        """The network for all classes of the data set."""
        return with_precision(problem.network(self.network), self.precision, problem.device)


class GradientMatchingSpec(MatchingSpec):
    """Gradients of the weights; see `trainer.objectives.matching.gradients`.

    With `contrast`, gradients are averaged over classes before they are compared, from network number `contrast_from`
    on. `eager` disables the compilation of steps of networks other than ConvNets.
    """

    kind: Literal["gradient_matching"] = "gradient_matching"
    distance: Distance = "cosine"
    layers: Layers = "weights"
    contrast: bool = False
    contrast_from: NonNegativeInt = 250
    networks: Annotated[NetworksSpec, member_of(NetworksSpec)] = RecalledNetworksSpec()
    eager: bool = False

    def build(self, problem: Problem) -> AbstractObjective:
        network = self.built_network(problem)
        step = inner_step(network, problem.device, compiled=not self.eager, multiple=LARGE_PARTS)
        return self.make(
            GradientMatching,
            step=step,
            networks=self.networks.build(network, step, self.augmentation),
            contrast_from=self.contrast_from if self.contrast else None,
            augmentation=AUGMENTATIONS[self.augmentation],
        )


class FeatureAlignmentSpec(MatchingSpec):
    """Activations of all layers, and centres that separate real items; see `trainer.objectives.matching.alignment`.

    `early` is the weight of activations of all blocks but the last, `late` that of the last.
    """

    kind: Literal["feature_alignment"] = "feature_alignment"
    early: NonNegativeFloat = 0.1
    late: NonNegativeFloat = 1.0
    discrimination: NonNegativeFloat = 0.01
    networks: Annotated[NetworksSpec, member_of(NetworksSpec)] = SteadyNetworksSpec()

    def build(self, problem: Problem) -> AbstractObjective:
        """Raises ValueError for another network than a ConvNet."""
        network = self.built_network(problem)
        return self.make(
            FeatureAlignment,
            activations=Activations.of(network),
            networks=self.networks.build(network, inner_step(network, problem.device), self.augmentation),
            augmentation=AUGMENTATIONS[self.augmentation],
        )


class DistributionMatchingSpec(MatchingSpec):
    """Class means of features of random networks; see `trainer.objectives.matching.features`."""

    kind: Literal["distribution_matching"] = "distribution_matching"

    def build(self, problem: Problem) -> AbstractObjective:
        network = self.built_network(problem)
        return self.make(
            DistributionMatching,
            features=layer_features(network, problem.device),
            networks=FreshNetworks(network),
            augmentation=AUGMENTATIONS[self.augmentation],
        )
