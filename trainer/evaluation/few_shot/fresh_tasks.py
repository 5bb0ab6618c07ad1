"""Accuracies over many small tasks with one fresh network each, trained together where that is faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork, Parameters, build_network
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.descent import images_at_once
from recall_server.core.training.retraining import Retraining
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Runs, fresh_accuracy
from trainer.evaluation.few_shot.many_networks import ManyNetworks, can_train_together

MOST_TOGETHER = 256  # networks; at the paper's width, parameters, momentum and gradients take 1 GiB


@final
@dataclass(frozen=True, eq=False)
class FreshTask:
    """A k-way task: images [k, r, C, H, W] in the model space of `preprocessing`, and a test split labelled 0..k-1."""

    images: Tensor
    preprocessing: AbstractPreprocessing
    test: Split
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Tasks of the same shape can be trained and scored together."""
        return (*self.images.shape, len(self.test))


def fresh_accuracies(
    tasks: Iterable[FreshTask],
    retraining: Retraining,
    *,
    device: torch.device,
    together: int | None = None,
    pretrained: Parameters | None = None,
) -> tuple[float, ...]:
    """Accuracy, 0 to 1, of a fresh network for each task on the task's test pictures, in order.

    On CUDA, `together` networks (by default as many as fit) are trained at once, with convolutions in bfloat16. On
    other devices they are trained one after another, which is faster there. `tasks` is consumed lazily. `pretrained`
    are the initial layers of all networks, if the schedule uses any. Raises TrainingFailed.
    """
    values: list[float] = []
    for group in _groups(tasks, retraining, device, together):
        first = group[0]
        network = _network(first, retraining, device)
        if len(group) == 1 or not can_train_together(network, retraining):
            values += [_alone(task, retraining, device, pretrained) for task in group]
            continue
        many = ManyNetworks(network, retraining, [task.seed for task in group], device=device)
        many.fit(torch.stack([task.images for task in group]), torch.eye(len(first.images)), pretrained=pretrained)
        values += _scores(many, group, device)
    return tuple(values)


def _groups(
    tasks: Iterable[FreshTask], retraining: Retraining, device: torch.device, together: int | None
) -> Iterator[list[FreshTask]]:
    """Yield consecutive tasks of one shape, at most as many as can be trained together."""
    group: list[FreshTask] = []
    for task in tasks:
        full = group and len(group) >= (together or _most(group[0], retraining, device))
        if group and (full or task.shape != group[0].shape):
            yield group
            group = []
        group.append(task)
    if group:
        yield group


def _most(task: FreshTask, retraining: Retraining, device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    queries, rows = task.images.shape[:2]
    seen = queries * min(rows, retraining.rows_per_class)
    return max(1, min(MOST_TOGETHER, images_at_once(_network(task, retraining, device), device) // seen))


def _network(task: FreshTask, retraining: Retraining, device: torch.device) -> AbstractNetwork:
    channels, height, width = task.images.shape[2:]
    network = build_network(retraining.network, (channels, height, width), len(task.images))
    return replace(network, convolution_dtype=torch.bfloat16) if device.type == "cuda" else network


def _alone(task: FreshTask, retraining: Retraining, device: torch.device, pretrained: Parameters | None) -> float:
    return fresh_accuracy(
        task.images,
        torch.eye(len(task.images)),
        Split(task.test.images.cpu(), task.test.labels.cpu()),
        Runs(retraining, [task.seed], device),
        labels=[f"class {number}" for number in range(len(task.images))],
        preprocessing=task.preprocessing,
        pretrained=pretrained,
    ).mean


def _scores(many: ManyNetworks, tasks: list[FreshTask], device: torch.device) -> list[float]:
    pictures = torch.stack([task.preprocessing.to_model(_pixels(task.test, device)) for task in tasks])
    labels = torch.stack([task.test.labels.to(device) for task in tasks])
    right: list[float] = (many.logits(pictures).argmax(dim=2) == labels).float().mean(dim=1).tolist()
    return right


def _pixels(split: Split, device: torch.device) -> Tensor:
    return Split(split.images.to(device), split.labels).pixels()
