"""The objective spec of trajectory matching, and that of its experts."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat

from recall_server.core.io.tensor_file import canonical_json, pack
from recall_server.core.training.augmentation import AUGMENTATIONS, AugmentationName
from trainer.data.features import cache_folder
from trainer.methods.specs.objectives.base import ObjectiveSpec
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.spec import Count
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner.inner_training import ConstantWeights, Momentum
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.precision import Precision, with_precision
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.queries import leaf
from trainer.objectives.trajectory.experts import Experts, Origin
from trainer.objectives.trajectory.hallucinated import HallucinatedTrajectories
from trainer.objectives.trajectory.matching import TrajectoryMatching
from trainer.objectives.trajectory.record import ExpertRecorder, ExpertTraining, Report

logger = logging.getLogger(__name__)


class ExpertsSpec(BaseModel):
    """`count` networks that train on real items for `epochs` of `items` items each (0: all of them).

    A `radius` above 0 trains them into flat minima. They are read from `folder`. Without a folder they are in the
    cache, where methods share them, and missing ones are recorded first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Count = 100
    epochs: Count = 50
    items: NonNegativeInt = 0
    batch: Count = 256
    rate: PositiveFloat = 0.01
    augmentation: AugmentationName = "dsa"
    radius: NonNegativeFloat = 0.0
    decomposed: NonNegativeFloat = 0.4
    seed: NonNegativeInt = 0
    folder: str = ""

    def training(self) -> ExpertTraining:
        """How experts are trained."""
        return ExpertTraining(
            epochs=self.epochs, items=self.items, batch=self.batch, rate=self.rate,
            augmentation=AUGMENTATIONS[self.augmentation], radius=self.radius, decomposed=self.decomposed,
            seed=self.seed,
        )  # fmt: skip


class TrajectorySpec(ObjectiveSpec):
    """Weights after training on recalled items, compared with experts; see `trainer.objectives.trajectory.matching`.

    The augmentation is drawn for each item. With the gradient `constant`, the weights of all steps are treated as
    constants. `rate` is the step size, which is learned with the memory if `learn_rate` is set, under the name `rate`.
    """

    steps: Count = 50
    expert_epochs: Count = 2
    latest_start: Count = 2
    batch: NonNegativeInt = 0
    rate: PositiveFloat = 0.01
    learn_rate: bool = True
    gradient: Literal["full", "constant"] = "full"
    experts: ExpertsSpec = ExpertsSpec()
    precision: Precision = "float32"
    eager: bool = False

    def trajectories(self, problem: Problem) -> TrajectoryMatching:
        """Raises ValueError for experts that are missing in a given folder or do not match."""
        step = self._step(problem)
        return self.make(
            TrajectoryMatching,
            step=step,
            training=ConstantWeights() if self.gradient == "constant" else Momentum(0.0),
            experts=self._experts(problem, step),
            rate=leaf(torch.tensor(self.rate, device=problem.device)),
            augmentation=AUGMENTATIONS[self.augmentation],
        )

    def record(self, problem: Problem, folder: Path | None, report: Report) -> Path:
        """Record missing experts, and return their folder."""
        return self._record(problem, self._step(problem), folder, report)

    def _step(self, problem: Problem) -> AbstractInnerStep:
        network = with_precision(problem.network(self.network), self.precision, problem.device)
        return inner_step(network, problem.device, compiled=not self.eager)

    def _experts(self, problem: Problem, step: AbstractInnerStep) -> Experts:
        folder = Path(self.experts.folder) if self.experts.folder else None
        if folder is None:
            folder = self._record(problem, step, None, _log)
        found = Experts.load(folder, step.network, self._origin(problem), self.latest_start - 1 + self.expert_epochs)
        return found.first(self.experts.count)

    def _record(self, problem: Problem, step: AbstractInnerStep, folder: Path | None, report: Report) -> Path:
        origin, training, split = self._origin(problem), self.experts.training(), problem.dataset.train
        folder = folder or _cached(origin, training)
        if not ExpertRecorder.missing(folder, origin, training, self.experts.count):
            return folder
        items = problem.preprocessing.to_model(split.pixels()).to(problem.device)
        recorder = ExpertRecorder(step, items, split.labels.to(problem.device), origin, training)
        recorder.record(folder, self.experts.count, report)
        return folder

    def _origin(self, problem: Problem) -> Origin:
        split = problem.dataset.train
        digest = hashlib.sha256(pack({"images": split.images, "labels": split.labels}, key="split", text="train"))
        return Origin(str(self.network), problem.dataset.name, digest.hexdigest(), problem.preprocessing.kind)


class TrajectoryMatchingSpec(TrajectorySpec):
    """Trajectory matching."""

    kind: Literal["trajectory_matching"] = "trajectory_matching"

    def build(self, problem: Problem) -> AbstractObjective:
        return self.trajectories(problem)


class HallucinatedTrajectoriesSpec(TrajectorySpec):
    """Trajectory matching that keeps images of one base different; see `trainer.objectives.trajectory.hallucinated`.

    `difference` is the weight of their difference; `alike` and `contrast` are weights in the loss of the extractor.
    """

    kind: Literal["hallucinated_trajectories"] = "hallucinated_trajectories"
    requires: ClassVar[frozenset[str]] = HallucinatedTrajectories.requires
    difference: NonNegativeFloat = 0.1
    alike: NonNegativeFloat = 0.1
    contrast: NonNegativeFloat = 0.1
    extractor_rate: PositiveFloat = 0.001

    def build(self, problem: Problem) -> AbstractObjective:
        trajectories = self.trajectories(problem)
        features = layer_features(trajectories.step.network, problem.device)
        return self.make(
            HallucinatedTrajectories, trajectories=trajectories, features=features, rate=self.extractor_rate
        )


def _cached(origin: Origin, training: ExpertTraining) -> Path:
    """The folder of these experts in the cache."""
    said = canonical_json([vars(origin), training.describe()])
    return cache_folder("experts") / hashlib.sha256(said.encode()).hexdigest()[:16]


def _log(number: int, epochs: int) -> None:
    if epochs == 1:
        logger.warning("recording expert %d: its training on real items comes before the first outer step", number)
