"""The verbs of the command line as functions: what `recall-trainer distill` does, without the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recall_server.atomic import write_atomically
from recall_server.bundle import MemoryBundle
from recall_server.errors import InvalidCheckpoint, InvalidRequest
from recall_server.preprocessing import AbstractPreprocessing
from recall_server.retraining import Retraining
from trainer.compose import Budget, fit_preprocessing, make_learner, make_objective, real_data
from trainer.datasets import ImageDataset
from trainer.distill import Distillation, Limits, Progress
from trainer.evaluate import fresh_accuracy
from trainer.few_shot import FewShot, draw_episode, largest_task
from trainer.learners import AbstractLearner, ImageLearner
from trainer.methods import Method
from trainer.progress import Display
from trainer.publish import Draft, Made, draft, encoder_folder, publish

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
    limits: Limits
    resume: bool

    def describe(self) -> dict[str, Any]:
        """What makes a run this run: a checkpoint of another description is refused, naming what differs."""
        method = self.method.model_dump(mode="json")
        return {
            "dataset": self.dataset.name,
            "dataset_sha256": self.dataset.digest,
            **{f"method.{name}": value for name, value in method.items()},
            "bases": self.budget.bases,
            "rows": self.budget.rows,
            "seed": self.seed,
            "outer_steps": self.limits.outer_steps,
            "minutes": self.limits.minutes,
            "validate_every": self.limits.validate_every,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
        }

    @property
    def checkpoint(self) -> Path:
        return self.output.with_suffix(".checkpoint")

    def made(self, progress: Progress) -> Made:
        """What the manifest says about this run."""
        return Made(
            self.dataset, self.method, self.budget, self.seed, progress, self.device, minutes=self.limits.minutes
        )


def distill(request: Request) -> MemoryBundle:
    """Distill and write the bundle; resumes from the checkpoint beside OUTPUT where that is asked for.

    Whatever can be refused is refused before the first step: what the format does not take, a folder that cannot be
    written, a checkpoint that would be overwritten. The checkpoint goes once the bundle is written.
    """
    if request.checkpoint.exists() and not request.resume:
        raise InvalidCheckpoint(
            f"{request.checkpoint.name} holds an unfinished run; go on with --resume, or delete it to start anew"
        )
    generator = torch.Generator().manual_seed(request.seed)
    preprocessing = fit_preprocessing(request.dataset, request.method)
    data = real_data(request.dataset, preprocessing, request.device)
    learner = make_learner(request.dataset, request.method, request.budget, data, generator)
    run = Distillation(
        learner,
        make_objective(request.dataset, request.method, request.device),
        request.method,
        run=request.describe(),
        limits=request.limits,
        generator=generator,
        checkpoint=request.checkpoint,
    )
    check = draft(learner, learner.tensors(), preprocessing, request.made(run.progress), request.output.stem)
    _check_writable(request.output, check)
    if isinstance(learner, ImageLearner):
        _validation_task(request)
    if request.resume:
        run.resume(request.checkpoint)
    with Display(request.limits, started_at=run.progress) as display:
        best = run.distill(data, validate=lambda: validate(learner, request, preprocessing), report=display)
    made = request.made(run.progress)
    bundle = publish(draft(learner, best, preprocessing, made, request.output.stem), request.output)
    request.checkpoint.unlink(missing_ok=True)
    return bundle


def _check_writable(output: Path, check: Draft) -> None:
    """StorageFailed now and not after hours, where a file of this size cannot be written beside OUTPUT."""
    if output.is_dir():
        raise ValueError(f"--output must name a file, but {output.name} is a folder")
    folders = [output.parent] if check.encoder is None else [output.parent, encoder_folder(output)]
    for folder in folders:
        probe = folder / f".{output.name}.tmp"
        write_atomically(probe, check.bundle.to_bytes() + (check.encoder or b""))
        probe.unlink()


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
        encode=lambda pixels: learner.encoder.logits(
            learner.parameters, preprocessing.to_model(pixels.to(request.device))
        ),
        device=request.device,
    )
    shots, tests = _validation_task(request)
    episodes = [
        draw_episode(
            request.dataset.validation, request.dataset.classes, ways=2, shots=shots, tests=tests, generator=generator
        )
        for _ in range(VALIDATION_EPISODES)
    ]
    return sum(few_shot.recalled(episode, seed) for seed, episode in enumerate(episodes)) / len(episodes)


def _validation_task(request: Request) -> tuple[int, int]:
    return largest_task(
        request.dataset.validation,
        request.dataset.classes,
        ways=2,
        shots=request.method.shots,
        tests=VALIDATION_TESTS,
    )


def pick_device(name: str) -> torch.device:
    """ "auto" is CUDA where there is one; asking for CUDA where there is none is an error, not a slow surprise."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise InvalidRequest(f"unknown device {name!r}; use auto, cpu or cuda", parameter="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidRequest("no CUDA device is available here; use --device auto or cpu", parameter="device")
    return torch.device(name)
