"""Makes an instant memory: a bundle within seconds, without a gradient step, then the best of a few such bundles.

The first candidate is written at once. The remaining choices are made one after another on validation data: the size at
which classifiers see pictures, the number of bases, pictures or averages as coefficients, whether pictures are flipped,
and the length of a classifier's training.
"""

from __future__ import annotations

import math
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
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.methods.specs.starts import StartSpec
from trainer.objectives.components import Components
from trainer.run.progress import RunState, Validation
from trainer.run.publisher import Publisher, check_writable
from trainer.run.setup.build import fit_preprocessing
from trainer.run.setup.request import DistillRequest, check_nothing_is_lost
from trainer.run.validation import validate

SHARES = (0.4, 0.6, 0.2)  # shares of the budget for bases; the first guess is served at once

Report = Callable[[str], None]
Enough = Callable[[float], str | None]  # of the best accuracy so far: why no further candidate is tried, or None


def nothing_to_gain(accuracy: float) -> str | None:
    """Why to stop where every validation picture is right."""
    return "all validation pictures are right" if accuracy >= 1 else None


def is_instant(method: Method) -> bool:
    """Whether a method takes no outer step, and its start is computed from pictures and addressed by labels."""
    return method.outer.steps == 0 and bool(method.start.variants()) and method.queries.kind == "labels"


def budgets(dataset: ImageDataset, method: Method, *, images_per_class: float) -> list[MemoryBudget]:
    """The budgets to choose from, the first guess first. Raises ValueError if none fits."""
    stored = method.memory.stored_numbers(method.shape(dataset))
    allowed = images_per_class * len(dataset.classes) * dataset.image_numbers
    counts = dict.fromkeys(max(1, min(stored, int(share * allowed / stored))) for share in SHARES)
    most = int(torch.bincount(dataset.train.labels).max())  # no class has more pictures
    fitted = [method.budget(dataset, images_per_class=images_per_class, bases=count) for count in counts]
    return [replace(budget, rows=min(budget.rows, most)) for budget in fitted]


def instant(
    request: DistillRequest,
    choices: Sequence[MemoryBudget],
    *,
    moments: SecondMoments | None = None,
    report: Report = lambda sentence: None,
    enough: Enough = nothing_to_gain,
) -> MemoryBundle:
    """Write the first of `choices` at once and the best one in the end. Returns the last bundle written.

    `moments` are those of all training pictures, if the data set holds only a sample. `report` gets a sentence for each
    step. `enough` may end the search after any candidate. Raises the errors of `trainer.cli.commands.distill` before
    anything is written.
    """
    check_nothing_is_lost(request)
    planned = _candidates(request, choices)
    run = InstantRun(request, moments, report, len(planned))
    for candidate in planned:
        run.consider(*candidate(run.best), quicker=candidate is _halved)
        if (reason := enough(run.progress.best)) is not None and run.number < run.count:
            report(f"{run.count - run.number} further candidates are not tried: {reason}")
            break
    run.publish()
    release_freed_memory()  # of the last candidate; libraries load more than 100 MB while a process ends
    return MemoryBundle.load(request.output)


Candidate = Callable[[DistillRequest], tuple[Method, MemoryBudget]]  # from the best one so far


def _candidates(request: DistillRequest, choices: Sequence[MemoryBudget]) -> list[Candidate]:
    """What is tried, in this order, each time as a change of the best so far."""
    first, *others = choices
    found: list[Candidate] = [lambda best: (best.method, first)]
    if _at_half_size(request) is not None:
        found.append(_halved)
    found += [_of_budget(budget) for budget in others]
    found += [_of_start(start) for start in request.method.start.variants() if start != request.method.start]
    return [*found, _with_flips, _with_patience]


def _of_budget(budget: MemoryBudget) -> Candidate:
    return lambda best: (best.method, budget)


def _of_start(start: StartSpec) -> Candidate:
    return lambda best: (best.method.varied(start=start), best.budget)


def _halved(best: DistillRequest) -> tuple[Method, MemoryBudget]:
    method = _at_half_size(best)
    assert method is not None, "it is a candidate only where such a network exists"
    return method, best.budget


def _with_flips(best: DistillRequest) -> tuple[Method, MemoryBudget]:
    return best.method.varied(retraining={"augmentation": "flip"}), best.budget


def _with_patience(best: DistillRequest) -> tuple[Method, MemoryBudget]:
    """Three times the training steps, which may help colour pictures. Without a clear gain they are not kept."""
    return best.method.varied(retraining={"steps": 3 * best.method.retraining.steps}), best.budget


def _at_half_size(request: DistillRequest) -> Method | None:
    """The method with classifiers that see pictures at the size of the stored bases; None if no such network exists.

    Recalled images hold no finer detail, and such classifiers train three to four times as fast.
    """
    method = request.method
    networks = method.objective.network, method.retraining.network
    if any(
        network.shrink != 1 for network in networks
    ):  # set by the caller, or an architecture that cannot shrink its input
        return None
    inner, served = (network.shrinking(2) for network in networks)
    try:
        for network in (inner, served):
            build_network(network, request.dataset.image_shape, len(request.dataset.classes))
    except ValueError:
        return None
    return method.varied(objective={"network": inner}, retraining={"network": served})


class InstantMemory(NamedTuple):
    """A candidate: its memory, and the model space of its classifiers."""

    components: Components
    preprocessing: AbstractPreprocessing


class InstantRun:
    """The bundle at `request.output`, and the best candidate so far, the `number`-th of `count`."""

    def __init__(self, request: DistillRequest, moments: SecondMoments | None, report: Report, count: int = 1) -> None:
        self.moments, self.report = moments, report
        self.number, self.count = 0, count
        self.started = time.monotonic()
        self.fitted = fit_preprocessing(request.dataset, request.method, moments=moments)
        self.best = request
        self.progress = RunState()
        self._made: InstantMemory | None = None

    def consider(self, method: Method, budget: MemoryBudget, *, quicker: bool = False) -> None:
        """Make and measure a candidate. It becomes the best if it is better by more than the noise.

        If its classifiers train `quicker`, it only must not be worse by more than the noise. The very first candidate
        is written before it is measured.
        """
        request = replace(self.best, method=method, budget=budget)
        name = f"{budget.bases} bases, {budget.rows} rows, {method.start}, {method.retraining.augmentation} augmented"
        name += f", {method.retraining.steps} steps" + (
            ", at half size" if method.objective.network.shrink == 2 else ""
        )
        self.number += 1
        name = f"candidate {self.number} of {self.count}: {name}" if self.count > 1 else name
        release_freed_memory()  # of the candidate before, so that the peak is that of one candidate
        made = self._make(request)
        release_freed_memory()  # of computing its coefficients
        if self._made is None:
            self.best, self._made = request, made
            check_writable(request.output, Publisher(request, *made).draft(made.components.tensors(), self.progress))
            self.publish()
            self.report(f"{name}: written after {self.progress.seconds:.1f} s")
        try:
            values = validate(made.components, request.dataset, method, made.preprocessing).values
        except TrainingFailed:  # no network can be trained on it
            values = (0.0,)
        point = Validation(0, time.monotonic() - self.started, values)
        self.report(f"{name}: {100 * point.accuracy:.1f} % on validation pictures{self._time_left()}")
        noise = replace(self.progress, history=[point]).noise
        if point.accuracy > self.progress.best + (-noise if quicker else noise):
            self.best, self._made = request, made
            self.progress.best, self.progress.history = point.accuracy, [point]

    def _time_left(self) -> str:
        """About how long the other candidates take, if each takes as long as those so far; nothing after the last."""
        others = self.count - self.number
        seconds = others * (time.monotonic() - self.started) / self.number
        return f", about {math.ceil(seconds)} s left" if others > 0 else ""

    def publish(self) -> None:
        """Write the best candidate. Raises StorageFailed if that fails; the previous file then stays."""
        assert self._made is not None
        self.progress.version += 1
        self.progress.seconds = time.monotonic() - self.started
        Publisher(self.best, *self._made)(self._made.components.tensors(), self.progress)

    def _make(self, request: DistillRequest) -> InstantMemory:
        method, generator = request.method, torch.Generator().manual_seed(request.seed)
        problem = Problem(request.dataset, self.fitted, generator, request.device, moments=self.moments)
        components = method.components(method.start.instant(method.memory, request.budget, problem), problem)
        return InstantMemory(components, method.preprocessing.onto(components.memory, self.fitted))
