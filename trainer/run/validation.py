"""The accuracy of a memory while it is distilled: fresh networks on validation pictures, never on the test set."""

from __future__ import annotations

import torch

from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from trainer.data.datasets import ImageDataset
from trainer.evaluation.evaluate import Accuracies, Runs, fresh_accuracy
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode, largest_task
from trainer.evaluation.robustness import under
from trainer.methods.method import Method
from trainer.objectives.components import Components

VALIDATION_PICTURES = 2_000
VALIDATION_NETWORKS = 2
VALIDATION_EPISODES = 10
VALIDATION_TESTS = 200


def validate(
    components: Components, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    """Accuracies of fresh networks, trained as in the objective, always with the same seeds and pictures.

    If the objective attacks pictures, those of validation are attacked too. A memory that is addressed by pictures is
    tested on few-shot episodes instead, always the same ones.
    """
    with torch.no_grad():
        if components.queries.shots:
            return _few_shot(components, dataset, method, preprocessing)
        recalled = components.memory.recall_lazily(torch.eye(components.memory.query_size, device=components.device))
    index = torch.randperm(len(dataset.validation), generator=torch.Generator().manual_seed(0))
    attacked = under(method.objective.validation_attack())
    return fresh_accuracy(
        *recalled,
        dataset.validation.select(index[:VALIDATION_PICTURES]),
        Runs(_retraining(method), range(VALIDATION_NETWORKS), components.device, predictions=attacked),
        labels=dataset.classes,
        preprocessing=preprocessing,
    )


def _few_shot(
    components: Components, dataset: ImageDataset, method: Method, preprocessing: AbstractPreprocessing
) -> Accuracies:
    queries, device, generator = components.queries, components.device, torch.Generator().manual_seed(0)
    few_shot = FewShot(
        components.memory,
        preprocessing,
        _retraining(method),
        encode=lambda pixels: queries.encode(preprocessing.to_model(pixels.to(device))),
        device=device,
        pretrained=queries.pretrained(),
    )
    shots, tests = validation_task(dataset, queries.shots)
    episodes = [
        draw_episode(dataset.validation, dataset.classes, ways=2, shots=shots, tests=tests, generator=generator)
        for _ in range(VALIDATION_EPISODES)
    ]
    return few_shot.accuracies(episodes, few_shot.by_pictures)


def validation_task(dataset: ImageDataset, shots: int) -> tuple[int, int]:
    """The numbers of shots and test pictures in a validation episode. Raises ValueError for too few pictures."""
    return largest_task(dataset.validation, dataset.classes, ways=2, shots=shots, tests=VALIDATION_TESTS)


def _retraining(method: Method) -> Retraining:
    return method.retraining.model_copy(update={"network": method.objective.network})
