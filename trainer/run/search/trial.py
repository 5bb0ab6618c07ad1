"""Accuracy of a memory on validation pictures, without files and without the test set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Accuracies
from trainer.methods.method import Method
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.objectives.components import Components
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits, Validation
from trainer.run.setup.build import fit_preprocessing, real_data
from trainer.run.validation import validate


def served_accuracy(
    components: Components, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    """Accuracies of fresh networks on what a bundle would recall now, trained by the schedule of its manifest."""
    schedule = components.objective.retraining(method.retraining, components.tensors())
    method = method.model_copy(update={"retraining": schedule})
    return validate(components.as_stored(method.memory.storage), dataset, method, preprocessing)


def trial(
    dataset: ImageDataset, method: Method, budget: MemoryBudget, *, limits: RunLimits, seed: int, device: torch.device
) -> list[Validation]:
    """Distill from scratch, and return all validations: the start, and one after every `limits.validate_every` steps.

    Raises the errors of distilling.
    """
    generator = torch.Generator().manual_seed(seed)
    preprocessing = fit_preprocessing(dataset, method)
    components = method.build(Problem(dataset, preprocessing, generator, device), budget)
    run = Distillation(components, method, run={}, limits=limits, generator=generator)
    space = method.preprocessing.onto(components.memory, preprocessing)

    def measure() -> Sequence[float]:
        return served_accuracy(components, dataset, method, space).values

    run.distill(real_data(dataset, preprocessing, device), validate=measure)
    return run.progress.history
