"""The verbs of the command line as functions: what `recall-trainer distill` does, without the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from recall_server.bundle import MemoryBundle
from recall_server.errors import InvalidRequest
from recall_server.preprocessing import AbstractPreprocessing
from recall_server.retraining import Retraining
from trainer.compose import Budget, fit_preprocessing, make_learner, make_objective, real_data
from trainer.datasets import ImageDataset
from trainer.distill import Distillation, Limits
from trainer.evaluate import fresh_accuracy
from trainer.few_shot import FewShot, draw_episode
from trainer.learners import AbstractLearner, ImageLearner
from trainer.methods import Method
from trainer.progress import Display
from trainer.publish import Made, describe, publish

VALIDATION_PICTURES = 2_000
VALIDATION_NETWORKS = 2
VALIDATION_EPISODES = 10
VALIDATION_TESTS = 200


@dataclass(frozen=True)
class Request:
    """Everything that `distill` is asked to do."""

    dataset: ImageDataset
    method: Method
    budget: Budget
    output: Path
    seed: int
    device: torch.device
    minutes: float | None
    resume: bool
    validate_every: int

    def describe(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint of another description is refused."""
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.digest,
            "method": self.method.model_dump(mode="json", exclude={"retraining"}),
            "bases": self.budget.bases,
            "rows": self.budget.rows,
            "seed": self.seed,
            "minutes": self.minutes,
            "device": self.device.type,
        }

    @property
    def checkpoint(self) -> Path:
        return self.output.with_suffix(".checkpoint")


def distill(request: Request) -> MemoryBundle:
    """Distill and write the bundle; resumes from the checkpoint beside OUTPUT where that is asked for."""
    generator = torch.Generator().manual_seed(request.seed)
    preprocessing = fit_preprocessing(request.dataset, request.method)
    data = real_data(request.dataset, preprocessing, request.device)
    learner = make_learner(request.dataset, request.method, request.budget, data, generator)
    limits = Limits(request.method.outer_steps, request.minutes, request.validate_every)
    run = Distillation(
        learner,
        make_objective(request.dataset, request.method, request.device),
        request.method,
        run=request.describe(),
        limits=limits,
        generator=generator,
        checkpoint=request.checkpoint,
    )
    made = Made(request.dataset, request.method, request.budget, request.seed, run.progress, request.device)
    # What the format would refuse is refused now, not after hours.
    describe(
        learner.memory, preprocessing, made, request.output, encoder=b"" if made.method.queries == "images" else None
    )
    if request.resume:
        run.resume(request.checkpoint)
    with Display(limits, started_at=run.progress) as display:
        best = run.distill(data, validate=lambda: validate(learner, request, preprocessing), report=display)
    return publish(learner, best, preprocessing, replace(made, progress=run.progress), request.output)


def validate(learner: AbstractLearner, request: Request, preprocessing: AbstractPreprocessing) -> float:
    """Accuracy on validation pictures of fresh networks like the inner one; the test set is never touched here."""
    retraining = request.method.retraining.model_copy(update={"network": request.method.network})
    with torch.no_grad():
        if isinstance(learner, ImageLearner):
            return _validate_few_shot(learner, request, preprocessing, retraining)
        queries = torch.eye(learner.memory.query_size, device=request.device)
        recalled = learner.memory.recall(queries)
    index = torch.randperm(len(request.dataset.validation), generator=torch.Generator().manual_seed(0))
    return fresh_accuracy(
        recalled,
        queries,
        request.dataset.validation.select(index[:VALIDATION_PICTURES]),
        labels=request.dataset.classes,
        preprocessing=preprocessing,
        retraining=retraining,
        seeds=range(VALIDATION_NETWORKS),
        device=request.device,
    ).mean


def _validate_few_shot(
    learner: ImageLearner, request: Request, preprocessing: AbstractPreprocessing, retraining: Retraining
) -> float:
    generator = torch.Generator().manual_seed(0)
    few_shot = FewShot(
        learner.memory,
        preprocessing,
        retraining,
        encode=lambda pixels: learner.encoder.logits(learner.parameters, preprocessing.to_model(pixels)),
        device=request.device,
    )
    validation, classes = request.dataset.validation, request.dataset.classes
    fewest = int(torch.bincount(validation.labels, minlength=len(classes)).min())
    shots = max(1, min(request.method.shots, fewest // 2))
    tests = min(VALIDATION_TESTS, 2 * (fewest - shots))
    episodes = [
        draw_episode(validation, classes, ways=2, shots=shots, tests=tests, generator=generator)
        for _ in range(VALIDATION_EPISODES)
    ]
    return sum(few_shot.recalled(episode, seed) for seed, episode in enumerate(episodes)) / len(episodes)


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one; asking for CUDA where there is none is an error, not a slow surprise."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InvalidRequest(f"unknown device {name!r}; use auto, cpu or cuda", parameter="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available here; use --device auto or cpu", parameter="device")
    return torch.device(name)
