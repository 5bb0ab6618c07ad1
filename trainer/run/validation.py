"""How good a memory is while it is being distilled: fresh networks on validation pictures, never on the test set."""

from __future__ import annotations

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Accuracies, fresh_accuracy
from trainer.evaluation.few_shot import FewShot, draw_episode, largest_task
from trainer.methods.method import Method
from trainer.objectives.outer_parameters import AbstractLearner, ImageLearner, LabelLearner

VALIDATION_PICTURES = 2_000
VALIDATION_NETWORKS = 2
VALIDATION_EPISODES = 10
VALIDATION_TESTS = 200


def validate(
    learner: AbstractLearner, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    """Accuracies of fresh networks like the inner one, always from the same seeds and on the same pictures.

    A memory addressed by pictures answers few-shot episodes instead, always the same ones.
    """
    device = _device(learner)
    if isinstance(learner, ImageLearner):
        with torch.no_grad():
            return _few_shot(learner, dataset, method, preprocessing)
    assert isinstance(learner, LabelLearner), "there are no other kinds"
    with torch.no_grad():
        recalled = learner.memory.recall_lazily(torch.eye(learner.memory.query_size, device=device))
    index = torch.randperm(len(dataset.validation), generator=torch.Generator().manual_seed(0))
    return fresh_accuracy(
        *recalled,
        dataset.validation.select(index[:VALIDATION_PICTURES]),
        labels=dataset.classes,
        preprocessing=preprocessing,
        retraining=_retraining(method),
        seeds=range(VALIDATION_NETWORKS),
        device=device,
    )


def _few_shot(
    learner: ImageLearner, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    device = _device(learner)
    generator = torch.Generator().manual_seed(0)
    few_shot = FewShot(
        learner.memory,
        preprocessing,
        _retraining(method),
        encode=lambda pixels: learner.encoder.logits(learner.parameters, preprocessing.to_model(pixels.to(device))),
        device=device,
        pretrained=learner.learned(),
    )
    shots, tests = validation_task(dataset, method)
    episodes = [
        draw_episode(dataset.validation, dataset.classes, ways=2, shots=shots, tests=tests, generator=generator)
        for _ in range(VALIDATION_EPISODES)
    ]
    return few_shot.accuracies(episodes, few_shot.by_pictures)


def validation_task(dataset: ImageDataset, method: Method) -> tuple[int, int]:
    """Shots and test pictures of a validation episode; ValueError where the pictures do not suffice for one."""
    return largest_task(dataset.validation, dataset.classes, ways=2, shots=method.shots, tests=VALIDATION_TESTS)


def _retraining(method: Method) -> Retraining:
    return method.retraining.model_copy(update={"network": method.network})


def _device(learner: AbstractLearner) -> torch.device:
    return next(iter(learner.tensors().values())).device
