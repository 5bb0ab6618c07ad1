"""Objective specs of kernel regression: the kernel and the loss."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count, Spec, member_of
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.kernel.base import AbstractKernel
from trainer.objectives.kernel.neural_tangent import NeuralTangent
from trainer.objectives.kernel.random_features import RandomFeatures
from trainer.objectives.kernel.regression import KernelRegression, RegressionLoss, initial_scale
from trainer.objectives.kernel.trained_pool import TrainedPool


class KernelSpec(Spec):
    """A kernel between items. By default it is a `kernel` with the fields of the spec."""

    noun: ClassVar[str] = "kernel"
    kernel: ClassVar[type[AbstractKernel]]

    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        """The kernel; `network` is that of the objective."""
        return self.make(self.kernel)


class NeuralTangentSpec(KernelSpec):
    """The closed form of fully connected networks with `depth` hidden layers; see `trainer.objectives.kernel`."""

    kind: Literal["neural_tangent"] = "neural_tangent"
    depth: Count = 1
    weight_variance: PositiveFloat = 2.0
    bias_variance: NonNegativeFloat = 0.01
    kernel: ClassVar[type[AbstractKernel]] = NeuralTangent


class RandomFeaturesSpec(KernelSpec):
    """Random convolutional networks without normalisation, drawn for every outer step."""

    kind: Literal["random_features"] = "random_features"
    kernel: ClassVar[type[AbstractKernel]] = RandomFeatures
    networks: Count = 8
    filters: Count = 256
    depth: Count = 3

    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        side = min(problem.dataset.image_shape[1:])
        if side < 2**self.depth:
            raise ValueError(f"images of {side} pixels a side are too small for {self.depth} poolings")
        return super().build(network, problem)


class TrainedPoolSpec(KernelSpec):
    """The features of a pool of `networks` like the objective's, each trained on the memory for `longest` steps."""

    kind: Literal["trained_pool"] = "trained_pool"
    networks: Count = 10
    rate: PositiveFloat = 3e-4
    longest: Count = 100
    batch: Count = 500

    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        pool = NetworkPool(network, self.networks, self.rate, self.longest, self.batch)
        return TrainedPool(layer_features(network, problem.device), pool)


class KernelRegressionSpec(ObjectiveSpec):
    """Ridge regression from recalled to real items; see `trainer.objectives.kernel.regression`.

    `scale` is the initial value of the learned scale of predictions, for the cross-entropy.
    """

    kind: Literal["kernel_regression"] = "kernel_regression"
    kernel: Annotated[KernelSpec, member_of(KernelSpec)] = NeuralTangentSpec()
    loss: RegressionLoss = "squared_error"
    ridge: PositiveFloat = 1e-6
    real_batch: Count = 5_000
    margin: bool = False
    scale: PositiveFloat = 1.0

    def build(self, problem: Problem) -> AbstractObjective:
        return self.make(
            KernelRegression,
            kernel=self.kernel.build(problem.network(self.network), problem),
            kind=self.loss,
            augmentation=AUGMENTATIONS[self.augmentation],
            log_scale=initial_scale(self.scale, problem.device) if self.loss == "cross_entropy" else None,
        )
