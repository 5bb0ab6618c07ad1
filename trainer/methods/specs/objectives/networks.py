"""Specs of the networks at which recalled and real items are compared."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.augmentation import AUGMENTATIONS, AugmentationName
from trainer.methods.specs.spec import Count, Spec
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.matching.networks import (
    AbstractNetworks,
    FreshNetworks,
    NetworksTrainedOnReal,
    NetworksTrainedOnRecalled,
)
from trainer.objectives.matching.steady_networks import SteadyNetworks


class NetworksSpec(Spec):
    """The source of the networks at which items are compared."""

    noun: ClassVar[str] = "source of networks"

    @abstractmethod
    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        """The networks. Those that are trained see items under the `augmentation`."""


class FreshNetworksSpec(NetworksSpec):
    """A random network for every outer step."""

    kind: Literal["fresh"] = "fresh"

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return FreshNetworks(network)


class RecalledNetworksSpec(NetworksSpec):
    """Networks that are trained on recalled items for `epochs` between two of `loops` comparisons.

    With 0 `loops`, the authors' numbers for as many recalled items per class are used; below ten, no network is
    trained.
    """

    kind: Literal["recalled"] = "recalled"
    loops: NonNegativeInt = 0
    epochs: Count = 1
    rate: PositiveFloat = 0.01
    batch: Count = 256

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return self.make(NetworksTrainedOnRecalled, step=step, augmentation=AUGMENTATIONS[augmentation])


class SteadyNetworksSpec(NetworksSpec):
    """Networks that train on recalled items as long as that changes their accuracy on real ones (Wang et al., 2022).

    Each has at most `loops` comparisons, with at most `epochs` epochs in between. A network is replaced when its last
    ten accuracies are within `steady`; it is compared again when they differ by more than `moved`.
    """

    kind: Literal["steady"] = "steady"
    loops: Count = 20
    epochs: Count = 20
    steady: NonNegativeFloat = 0.04
    moved: NonNegativeFloat = 0.03
    per_class: Count = 128
    rate: PositiveFloat = 0.01
    batch: Count = 256

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        training = self.make(NetworksTrainedOnRecalled, step=step, augmentation=AUGMENTATIONS[augmentation])
        return self.make(SteadyNetworks, training=training)


class RealNetworksSpec(NetworksSpec):
    """Networks that train on `items` real items between two of `loops` comparisons, by SGD with momentum and CutMix."""

    kind: Literal["real"] = "real"
    loops: Count = 100
    items: Count = 2_000
    batch: Count = 64
    rate: PositiveFloat = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    mixed: Annotated[float, Field(ge=0, le=1)] = 0.5
    augmentation: AugmentationName = "color+crop"

    def build(self, network: AbstractNetwork, step: AbstractInnerStep, augmentation: str) -> AbstractNetworks:
        return self.make(NetworksTrainedOnReal, step=step, augmentation=AUGMENTATIONS[self.augmentation])
