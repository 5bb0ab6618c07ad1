"""Start specs: the start of a memory, and of the encoder of a memory that pictures address."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import NonNegativeInt

from recall_server.core.encoders.weights import encoder_parameters
from recall_server.core.memory import BASES, ITEMS, AbstractMemory, AddressedBases
from recall_server.core.networks import AbstractNetwork, NetworkSpec, Parameters
from trainer.data.enlargement import Enlargement
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.memories import MemorySpec
from trainer.methods.specs.problem import MemoryShape, Problem
from trainer.methods.specs.spec import Spec, member_of
from trainer.starts.eigenvectors import Coefficients, principal_start
from trainer.starts.few_samples import few_samples_start
from trainer.starts.from_bundle import resume_from_bundle
from trainer.starts.query_encoders.for_pictures import start_by_pictures
from trainer.starts.random import Initialisation
from trainer.starts.real.real_items import Selection, network_features, pixel_features, real_items


class StartSpec(Spec):
    """The start of a memory. `traits` are the memory's traits that it needs.

    `gives_targets` says whether it gives a memory soft targets, which are learned otherwise.
    """

    noun: ClassVar[str] = "start"
    traits: ClassVar[frozenset[str]] = frozenset()
    gives_targets: ClassVar[bool] = False

    @abstractmethod
    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        """The memory before the first outer step, on the CPU."""

    def instant(self, spec: MemorySpec, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        """A memory that is useful without an outer step, on the CPU. Raises ValueError if this start has none."""
        raise ValueError(f"a memory from start={self.kind} is no good without outer steps")

    def variants(self) -> tuple[StartSpec, ...]:
        """The starts of this kind that an instant memory chooses from; none if this start has no instant memory."""
        return ()

    def most_bases(self, stored_numbers: int) -> float:
        """The largest number of bases that this start can compute for stored items of this many numbers."""
        return math.inf

    def encoder(self, network: AbstractNetwork, problem: Problem) -> Parameters | None:
        """The initial parameters of a query encoder, on the CPU; None for random ones."""
        return None

    def by_pictures(
        self, memory: AbstractMemory, encoder: AbstractNetwork, parameters: Parameters, problem: Problem, **how: Any
    ) -> tuple[AbstractMemory, Parameters]:
        """The memory as pictures address it, and the encoder's parameters, on the CPU; see `start_by_pictures`."""
        return memory, parameters


class NoiseStart(StartSpec):
    """Random numbers, as in the paper's code (`xavier`) or its text (`kaiming`)."""

    kind: Literal["noise"] = "noise"
    streams: ClassVar[bool] = True
    initialisation: Initialisation = "xavier"

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        return spec.noise(shape, budget.bases, budget.rows, self.initialisation, problem.generator)


class PrincipalStart(StartSpec):
    """The leading eigenvectors of the training pictures as bases, with the coefficients of medoids or centroids."""

    kind: Literal["principal"] = "principal"
    streams: ClassVar[bool] = True
    traits: ClassVar[frozenset[str]] = frozenset({BASES})
    coefficients: Coefficients = "typical"

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        if problem.samples is not None:
            return few_samples_start(
                problem.samples,
                Enlargement.of(spec.resolution, *shape.item_shape[1:]),
                classes=shape.classes,
                bases=budget.bases,
                rows=budget.rows,
                generator=problem.generator,
                coefficients=self.coefficients,
            )
        # Always drawn, so that later random numbers are the same for both starts.
        spec.noise(shape, budget.bases, budget.rows, "xavier", problem.generator)
        return self.instant(spec, budget, problem)

    def instant(self, spec: MemorySpec, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        return principal_start(
            problem.training,
            classes=problem.dataset.classes,
            bases=budget.bases,
            rows=budget.rows,
            moments=problem.moments,
            coefficients=self.coefficients,
            resolution=spec.resolution,
        )

    def variants(self) -> tuple[StartSpec, ...]:
        return PrincipalStart(), PrincipalStart(coefficients="centres")

    def most_bases(self, stored_numbers: int) -> float:
        return stored_numbers

    def by_pictures(
        self, memory: AbstractMemory, encoder: AbstractNetwork, parameters: Parameters, problem: Problem, **how: Any
    ) -> tuple[AbstractMemory, Parameters]:
        assert isinstance(memory, AddressedBases), "this start makes no other memory"
        return start_by_pictures(memory, encoder, parameters, problem.training, **how)


class RealStart(StartSpec):
    """Real items of each label: random ones, herded ones, or centres that cover the class.

    Herding and centres use the features of `network` after `training_steps` of training on all classes; with 0 steps,
    or if items are features already, they use the items themselves.
    """

    kind: Literal["real"] = "real"
    traits: ClassVar[frozenset[str]] = frozenset({ITEMS})
    selection: Selection = "random"
    network: NetworkSpec = NetworkSpec(filters=32)
    training_steps: NonNegativeInt = 600

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        data, features = problem.dataset, pixel_features(problem.dataset.train)
        if self.selection != "random" and self.training_steps and data.image_shape[1:] != (1, 1):
            network = problem.network(self.network, shape.classes)
            features = network_features(network, problem.training, steps=self.training_steps)
        items = real_items(
            problem.training, classes=shape.classes, rows=budget.rows, selection=self.selection, features=features
        )
        return spec.holding(items.reshape(*items.shape[:2], *shape.item_shape))


class BundleStart(StartSpec):
    """The memory of a bundle, and its encoder if pictures address it."""

    kind: Literal["bundle"] = "bundle"

    def memory(self, spec: MemorySpec, shape: MemoryShape, budget: MemoryBudget, problem: Problem) -> AbstractMemory:
        if problem.bundle is None:
            raise ValueError("name the bundle to start from: --start NAME.safetensors")
        if problem.encoder is not None:
            return problem.bundle.memory
        data = problem.dataset
        return resume_from_bundle(problem.bundle, data.classes, data.train, problem.generator)

    def encoder(self, network: AbstractNetwork, problem: Problem) -> Parameters | None:
        if problem.encoder is None:
            raise ValueError("to go on from a memory that pictures address takes its bundle and its encoder")
        try:
            return encoder_parameters(problem.encoder, network)
        except ValueError as error:
            raise ValueError(
                f"{error}; --set queries.encoder=... and --set queries.size=... must be those of its distillation"
            ) from error


StartPart = Annotated[StartSpec, member_of(StartSpec)]
