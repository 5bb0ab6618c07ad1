"""Objective specs of matching: which statistics of recalled and real items are compared, and at which networks."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recall_server.core.networks import AbstractNetwork, build_network
from recall_server.core.training.augmentation import AUGMENTATIONS, AugmentationName
from trainer.methods.specs.objectives import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Spec, member_of
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.precision import Precision, with_precision
from trainer.objectives.inner.select_step import inner_step
from trainer.objectives.inner.step import AbstractInnerStep
from trainer.objectives.matching.distances import Distance, Layers
from trainer.objectives.matching.features import DistributionMatching
from trainer.objectives.matching.gradients import GradientMatching
from trainer.objectives.matching.networks import (
    AbstractNetworks,
    FreshNetworks,
    NetworksTrainedOnReal,
    NetworksTrainedOnRecalled,
)

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


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


class NetworksSpec(Spec):
    """Where the networks come from at which items are compared."""

    noun: ClassVar[str] = "source of networks"

    @abstractmethod
    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        """The networks; those that are trained see items under the `augmentation`."""


class FreshNetworksSpec(NetworksSpec):
    """A random network for every outer step."""

    kind: Literal["fresh"] = "fresh"

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return FreshNetworks(network)


class RecalledNetworksSpec(NetworksSpec):
    """Networks that learn the recalled items for `epochs` between two of `loops` comparisons.

    0 `loops` are the authors' numbers for as many items as a class recalls; at fewer than ten no network is trained.
    """

    kind: Literal["recalled"] = "recalled"
    loops: Annotated[int, Field(ge=0)] = 0
    epochs: Count = 1
    rate: Rate = 0.01
    batch: Count = 256

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return NetworksTrainedOnRecalled(
            step, self.loops, self.epochs, self.rate, self.batch, AUGMENTATIONS[augmentation]
        )


class RealNetworksSpec(NetworksSpec):
    """Networks that learn `items` real items between two of `loops` comparisons, by SGD with momentum and CutMix."""

    kind: Literal["real"] = "real"
    loops: Count = 100
    items: Count = 2_000
    batch: Count = 64
    rate: Rate = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    mixed: Annotated[float, Field(ge=0, le=1)] = 0.5
    augmentation: AugmentationName = "color+crop"

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return NetworksTrainedOnReal(
            step, self.loops, self.items, self.batch, self.rate, self.momentum, self.weight_decay, self.mixed,
            AUGMENTATIONS[self.augmentation],
        )  # fmt: skip


class GradientMatchingSpec(MatchingSpec):
    """Gradients for the weights; see `trainer.objectives.matching.gradients`.

    With `contrast`, the gradients are averaged over classes before they are compared, from the network number
    `contrast_from` on. `eager` does not compile the steps of networks that are not ConvNets.
    """

    kind: Literal["gradient_matching"] = "gradient_matching"
    distance: Distance = "cosine"
    layers: Layers = "weights"
    contrast: bool = False
    contrast_from: Annotated[int, Field(ge=0)] = 250
    networks: Annotated[NetworksSpec, member_of(NetworksSpec)] = RecalledNetworksSpec()
    eager: bool = False

    def build(self, problem: Problem) -> AbstractObjective:
        network = self.built_network(problem)
        step = inner_step(network, problem.device, compiled=not self.eager)
        return GradientMatching(
            step,
            self.networks.build(network, step, self.augmentation),
            real_per_class=self.real_per_class,
            distance=self.distance,
            layers=self.layers,
            contrast_from=self.contrast_from if self.contrast else None,
            rows_per_class=self.rows_per_class,
            augmentation=AUGMENTATIONS[self.augmentation],
        )


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
