"""An instant memory: a bundle within seconds, without a gradient step, and then the best of a few such bundles.

The first is written at once. What is left to choose (at which size classifiers look at pictures, how many bases,
pictures or averages, whether a flipped picture is one of its class, and how long classifiers are trained) is chosen on
validation data, one candidate after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import build_network
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.allocator import release_freed_memory
from recall_server.errors import TrainingFailed
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.methods.budget import MemoryBudget
from trainer.methods.method import Method
from trainer.methods.specs.problem import Problem
from trainer.objectives.components import Components
from trainer.run.build import fit_preprocessing
from trainer.run.progress import RunState, Validation
from trainer.run.publisher import Publisher, check_writable
from trainer.run.request import DistillRequest, check_nothing_is_lost
from trainer.run.validation import validate

SHARES = (0.4, 0.6, 0.2)  # of the budget that bases may take; the first is the guess that is served at once

Report = Callable[[str], None]


def is_instant(method: Method) -> bool:
    """Whether a method takes no outer step from a start that needs none, addressed by labels."""
    return method.outer.steps == 0 and bool(method.start.variants()) and method.queries.kind == "labels"


def budgets(dataset: ImageDataset, method: Method, *, images_per_class: float) -> list[MemoryBudget]:
    """The budgets to choose among, the first guess first; ValueError where nothing fits."""
    stored = method.memory.stored_numbers(method.shape(dataset))
    allowed = images_per_class * len(dataset.classes) * dataset.image_numbers
    counts = dict.fromkeys(max(1, min(stored, int(share * allowed / stored))) for share in SHARES)
    most = int(torch.bincount(dataset.train.labels).max())  # no class has more pictures to recall
    fitted = [method.budget(dataset, images_per_class=images_per_class, bases=count) for count in counts]
    return [replace(budget, rows=min(budget.rows, most)) for budget in fitted]


def instant(
    request: DistillRequest,
    choices: Sequence[MemoryBudget],
    *,
    moments: SecondMoments | None = None,
    report: Report = lambda sentence: None,
) -> MemoryBundle:
    """Write the first of `choices` at once and the best in the end; returns what was written last.

    `moments` are those of all training pictures, where the data set holds a sample. `report` is told each step in a
    sentence. Raises what `trainer.cli.commands.distill` raises, before anything is written.
    """
    check_nothing_is_lost(request)
    run = InstantRun(request, moments, report)
    first, *others = choices
    run.consider(request.method, first)
    if (half := _at_half_size(request)) is not None:
        run.consider(half, first, quicker=True)
    for budget in others:
        run.consider(run.best.method, budget)
    for start in request.method.start.variants():
        if start != request.method.start:
            run.consider(run.best.method.varied(start=start), run.best.budget)
    for vary in (_with_flips, _with_patience):
        run.consider(vary(run.best.method), run.best.budget)
    run.publish()
    release_freed_memory()  # of the last candidate: as a process ends, libraries touch more than 100 MB of their files
    return MemoryBundle.load(request.output)


def _at_half_size(request: DistillRequest) -> Method | None:
    """Classifiers that look at pictures as large as bases are stored; None where no network is small enough for that.

    What is recalled holds nothing finer, and they are trained three to four times as fast.
    """
    method = request.method
    networks = method.objective.network, method.retraining.network
    if any(network.shrink != 1 for network in networks):  # asked for, or of an architecture that shrinks nothing
        return None
    inner, served = (network.shrinking(2) for network in networks)
    try:
        for network in (inner, served):
            build_network(network, request.dataset.image_shape, len(request.dataset.classes))
    except ValueError:
        return None
    return method.varied(objective={"network": inner}, retraining={"network": served})


def _with_flips(method: Method) -> Method:
    return method.varied(retraining={"augmentation": "flip"})


def _with_patience(method: Method) -> Method:
    """Colour pictures gain by three times the steps; where it is within the noise, classifiers stay as quick."""
    return method.varied(retraining={"steps": 3 * method.retraining.steps})


class InstantMemory(NamedTuple):
    """A candidate: its memory, and the space in which classifiers see pictures."""

    components: Components
    preprocessing: AbstractPreprocessing


class InstantRun:
    """The bundle at `request.output`, and the best candidate for it so far."""

    def __init__(self, request: DistillRequest, moments: SecondMoments | None, report: Report) -> None:
        self.moments, self.report = moments, report
        self.started = time.monotonic()
        self.fitted = fit_preprocessing(request.dataset, request.method, moments=moments)
        self.best = request
        self.progress = RunState()
        self._made: InstantMemory | None = None

    def consider(self, method: Method, budget: MemoryBudget, *, quicker: bool = False) -> None:
        """Make a memory and measure it; it becomes the best where it is better by more than the noise.

        One whose classifiers are quicker to train, where it is not worse by more. The very first is written before it
        is measured.
        """
        request = replace(self.best, method=method, budget=budget)
        name = f"{budget.bases} bases, {budget.rows} rows, {method.start}, {method.retraining.augmentation} augmented"
        name += f", {method.retraining.steps} steps" + (
            ", at half size" if method.objective.network.shrink == 2 else ""
        )
        release_freed_memory()  # of the candidate before; the peak is then that of the largest, not of all together
        made = self._make(request)
        release_freed_memory()  # of the search for its coefficients
        if self._made is None:
            self.best, self._made = request, made
            check_writable(request.output, Publisher(request, *made).draft(made.components.tensors(), self.progress))
            self.publish()
            self.report(f"{name}: written after {self.progress.seconds:.1f} s")
        try:
            values = validate(made.components, request.dataset, method, made.preprocessing).values
        except TrainingFailed:  # it teaches nothing, or nothing can be learnt from these pictures
            values = (0.0,)
        point = Validation(0, time.monotonic() - self.started, values)
        self.report(f"{name}: {100 * point.accuracy:.1f} % on validation pictures")
        noise = replace(self.progress, history=[point]).noise
        if point.accuracy > self.progress.best + (-noise if quicker else noise):
            self.best, self._made = request, made
            self.progress.best, self.progress.history = point.accuracy, [point]

    def publish(self) -> None:
        """Write the best so far; raises StorageFailed, and what was there stays."""
        assert self._made is not None
        self.progress.version += 1
        self.progress.seconds = time.monotonic() - self.started
        Publisher(self.best, *self._made)(self._made.components.tensors(), self.progress)

    def _make(self, request: DistillRequest) -> InstantMemory:
        method, generator = request.method, torch.Generator().manual_seed(request.seed)
        problem = Problem(request.dataset, self.fitted, generator, request.device, moments=self.moments)
        components = method.components(method.start.instant(method.memory, request.budget, problem), problem)
        return InstantMemory(components, method.preprocessing.onto(components.memory, self.fitted))
