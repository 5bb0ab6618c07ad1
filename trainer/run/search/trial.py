"""How good a memory is, or gets, on validation pictures; no file is written and no test picture is read."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Accuracies
from trainer.methods.budget import MemoryBudget
from trainer.methods.method import Method
from trainer.objectives.outer_parameters import AbstractLearner, with_learned_rate
from trainer.run.build import fit_preprocessing, make_learner, make_objective, real_data, with_projection
from trainer.run.distill import Distillation
from trainer.run.progress import RunLimits, Validation
from trainer.run.validation import validate


def served_accuracy(
    learner: AbstractLearner, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    """Accuracies of fresh networks on what a bundle of the learner would recall, by the schedule that it would name."""
    schedule = with_learned_rate(method.retraining, learner.tensors())
    method = method.model_copy(update={"retraining": schedule})
    return validate(learner.as_stored(method.storage), dataset, method, preprocessing)


def trial(
    dataset: ImageDataset, method: Method, budget: MemoryBudget, *, limits: RunLimits, seed: int, device: torch.device
) -> list[Validation]:
    """Distill from scratch, and return all validations in their order: the start, and every `limits.validate_every`.

    Raises what distilling raises.
    """
    generator = torch.Generator().manual_seed(seed)
    preprocessing = fit_preprocessing(dataset, method)
    learner = make_learner(dataset, method, budget, preprocessing, generator, device=device)
    objective = make_objective(dataset, method, device)
    run = Distillation(learner, objective, method, run={}, limits=limits, generator=generator)
    space = with_projection(method, learner.memory, preprocessing)

    def measure() -> Sequence[float]:
        return served_accuracy(learner, dataset, method, space).values

    run.distill(real_data(dataset, preprocessing, device), validate=measure)
    return run.progress.history
