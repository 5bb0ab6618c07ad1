"""Joint training, the upper bound: one network is trained on random samples of all tasks, without a stream."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainer.run.distill import Interrupted
from trainer.streams.learners.learner import accuracy
from trainer.streams.learners.shared_network import OnlineNetwork
from trainer.streams.sources.task import CHUNK, MINIBATCH, AbstractStream, StreamTask

TASKS_AT_ONCE = 5  # tasks in a minibatch, with ten samples each


def joint_accuracies(
    stream: AbstractStream,
    network: OnlineNetwork,
    *,
    epochs: int,
    seed: int,
    stopped: Callable[[], bool] = lambda: False,
) -> list[float]:
    """Accuracy on every task after `epochs` epochs; pictures are made again whenever they are drawn.

    Raises Interrupted, without saving anything, once `stopped` returns True between two minibatches.
    """
    tasks = [task for number in range(stream.tasks) if (task := stream.task(number)) is not None]
    generator = torch.Generator().manual_seed(seed)
    for task in tasks:
        network.begin(task.header)
    samples = sum(len(task.train) for task in tasks)
    for _ in range(epochs * samples // (MINIBATCH * TASKS_AT_ONCE)):
        if stopped():
            raise Interrupted
        chosen = torch.randint(len(tasks), (TASKS_AT_ONCE,), generator=generator).tolist()
        drawn = [_draw(network, tasks, number, generator) for number in chosen]
        images, labels = zip(*drawn, strict=True)
        network.learn(torch.cat(images), torch.cat(labels))
    return [accuracy(network.predictor(number), task.test, CHUNK) for number, task in enumerate(tasks)]


def _draw(
    network: OnlineNetwork, tasks: list[StreamTask], number: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    train = tasks[number].train
    batch = train.select(torch.randint(len(train), (MINIBATCH,), generator=generator))
    return network.preprocessing.to_model(batch.pixels()), network.encode(number, batch.labels)
