"""Query specs: how the classes of an outer step address the memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import NonNegativeInt

from recall_server.core.memory import AbstractMemory
from recall_server.core.networks import AbstractNetwork, NetworkSpec, Parameters
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count, Spec, member_of
from trainer.methods.specs.starts import StartSpec
from trainer.objectives.queries import AbstractQueries, LabelQueries, PictureQueries
from trainer.starts.query_encoders.pretrained_encoder import pretrain_encoder


class QueriesSpec(Spec):
    """The kind of queries."""

    noun: ClassVar[str] = "kind of queries"

    @abstractmethod
    def query_size(self, classes: int) -> int:
        """The length of a query vector."""

    @abstractmethod
    def build(
        self, memory: AbstractMemory, start: StartSpec, problem: Problem, *, augmentation: str, begins_networks: bool
    ) -> tuple[AbstractMemory, AbstractQueries]:
        """The memory as addressed by these queries, and the queries, on the problem's device."""


class LabelQueriesSpec(QueriesSpec):
    """One-hot labels."""

    kind: Literal["labels"] = "labels"
    streams: ClassVar[bool] = True

    def query_size(self, classes: int) -> int:
        return classes

    def build(
        self, memory: AbstractMemory, start: StartSpec, problem: Problem, *, augmentation: str, begins_networks: bool
    ) -> tuple[AbstractMemory, AbstractQueries]:
        return memory, LabelQueries()


class PictureQueriesSpec(QueriesSpec):
    """The mean of `size` features of `shots` pictures by an encoder (paper, 5.3.2 and B.3).

    With `pretraining_steps`, the encoder is pretrained as a classifier of all classes; otherwise it starts at random.
    """

    kind: Literal["images"] = "images"
    shots: Count = 5
    encoder: NetworkSpec = NetworkSpec(filters=32)
    size: Count = 32
    pretraining_steps: NonNegativeInt = 0

    def query_size(self, classes: int) -> int:
        return self.size

    def build(
        self, memory: AbstractMemory, start: StartSpec, problem: Problem, *, augmentation: str, begins_networks: bool
    ) -> tuple[AbstractMemory, AbstractQueries]:
        network = problem.network(self.encoder, self.size)
        parameters = start.encoder(network, problem)
        if parameters is None:
            parameters = self._anew(network, problem, augmentation)
        how = {"shots": self.shots, "discriminants": bool(self.pretraining_steps)}
        memory, parameters = start.by_pictures(memory, network, parameters, problem, **how)
        if network.classes != memory.query_size:
            raise ValueError(
                f"the encoder gives {network.classes} features, but the memory takes {memory.query_size}; "
                f"use --set queries.size={memory.query_size}"
            )
        placed = {name: value.to(problem.device) for name, value in parameters.items()}
        return memory, PictureQueries.of(network, placed, shots=self.shots, begins_networks=begins_networks)

    def _anew(self, network: AbstractNetwork, problem: Problem, augmentation: str) -> Parameters:
        parameters = network.initialise(problem.generator)
        if not self.pretraining_steps:
            return parameters
        steps = self.pretraining_steps
        return pretrain_encoder(network, parameters, problem.training, steps=steps, augmentation=augmentation)


QueriesPart = Annotated[QueriesSpec, member_of(QueriesSpec)]
