"""Objective specs of kernel regression: the kernel and the loss."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recall_server.core.networks import AbstractNetwork, build_network
from recall_server.core.training.augmentation import AUGMENTATIONS
from trainer.methods.specs.objectives import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Spec, member_of
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.network_pool import NetworkPool
from trainer.objectives.kernel.base import AbstractKernel
from trainer.objectives.kernel.neural_tangent import NeuralTangent
from trainer.objectives.kernel.random_features import RandomFeatures
from trainer.objectives.kernel.regression import KernelRegression, RegressionLoss, initial_scale
from trainer.objectives.kernel.trained_pool import TrainedPool

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Variance = Annotated[float, Field(ge=0)]


class KernelSpec(Spec):
    """A kernel between items."""

    noun: ClassVar[str] = "kernel"

    @abstractmethod
    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        """The kernel; `network` is that of the objective."""


class NeuralTangentSpec(KernelSpec):
    """The closed form of fully connected networks with `depth` hidden layers; see `trainer.objectives.kernel`."""

    kind: Literal["neural_tangent"] = "neural_tangent"
    depth: Count = 1
    weight_variance: Positive = 2.0
    bias_variance: Variance = 0.01

    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        return NeuralTangent(self.depth, self.weight_variance, self.bias_variance)


class RandomFeaturesSpec(KernelSpec):
    """Random convolutional networks without normalisation, drawn for every outer step."""

    kind: Literal["random_features"] = "random_features"
    networks: Count = 8
    filters: Count = 256
    depth: Count = 3

    def build(self, network: AbstractNetwork, problem: Problem) -> AbstractKernel:
        side = min(problem.dataset.image_shape[1:])
        if side < 2**self.depth:
            raise ValueError(f"images of {side} pixels a side are too small for {self.depth} poolings")
        return RandomFeatures(self.networks, self.filters, self.depth)


class TrainedPoolSpec(KernelSpec):
    """The features of a pool of `networks` like the objective's, each trained on the memory for `longest` steps."""

    kind: Literal["trained_pool"] = "trained_pool"
    networks: Count = 10
    rate: Positive = 3e-4
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
    ridge: Positive = 1e-6
    real_batch: Count = 5_000
    margin: bool = False
    scale: Positive = 1.0

    def build(self, problem: Problem) -> AbstractObjective:
        network = build_network(self.network, problem.dataset.image_shape, len(problem.dataset.classes))
        return KernelRegression(
            self.kernel.build(network, problem),
            ridge=self.ridge,
            real_batch=self.real_batch,
            kind=self.loss,
            margin=self.margin,
            augmentation=AUGMENTATIONS[self.augmentation],
            log_scale=initial_scale(self.scale, problem.device) if self.loss == "cross_entropy" else None,
        )
