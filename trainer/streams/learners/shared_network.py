"""Online baselines: one network that is trained while the stream runs.

Without a buffer it is online SGD. With one it is experience replay (Chaudhry et al., 2019; Riemer et al., 2019): a
reservoir over the whole stream provides samples for every update in addition to the new minibatch. As in the paper's
comparison, the task is known at test time, so only its classes are candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.fused import fused_logits, trainable_parameters
from trainer.data.splits import Split
from trainer.streams.buffer.reservoir import Reservoir
from trainer.streams.learners.learner import AbstractStreamLearner, Allowance, Predict, State, prefixed, with_prefix
from trainer.streams.sources.task import TaskHeader


class Updates(NamedTuple):
    """Every minibatch drives `steps` steps of SGD at `rate`, each with `replayed` samples of the buffer besides."""

    rate: float
    steps: int
    replayed: int


@final
class OnlineNetwork(AbstractStreamLearner):
    """A network with one output for each of `classes`, the class names of all tasks; equal names share an output.

    The buffer is a reservoir; a capacity of 0 is online SGD.
    """

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        network: NetworkSpec,
        classes: Sequence[str],
        image_shape: tuple[int, int, int],
        preprocessing: AbstractPreprocessing,
        updates: Updates,
        allowance: Allowance,
    ) -> None:
        self.name, self.preprocessing, self.device = name, preprocessing, allowance.device
        self._column = {label: column for column, label in enumerate(classes)}
        self._network = build_network(network, image_shape, len(classes))
        self._generator = torch.Generator().manual_seed(allowance.seed)
        self._parameters = {
            label: value.to(self.device) for label, value in self._network.initialise(self._generator).items()
        }
        self._leaves = {
            label: self._parameters[label].requires_grad_() for label in trainable_parameters(self._network)
        }
        self._reservoir = Reservoir(allowance.capacity // math.prod(image_shape), image_shape, self._generator)
        self._updates = updates
        self._tasks: list[Tensor] = []  # for every task, the columns [k] of its classes
        self._names: list[list[str]] = []

    def begin(self, header: TaskHeader) -> None:
        unknown = [label for label in header.classes if label not in self._column]
        if unknown:
            raise ValueError(f"the network has no output for the class {unknown[0]} of {header.name}")
        self._names.append(list(header.classes))
        self._tasks.append(self._columns(header.classes))

    def _columns(self, classes: Sequence[str]) -> Tensor:
        return torch.tensor([self._column[label] for label in classes])

    def observe(self, batch: Split) -> None:
        images = self.preprocessing.to_model(batch.pixels())
        labels = self.encode(len(self._tasks) - 1, batch.labels)
        for _ in range(self._updates.steps):
            replayed, their_labels = self._reservoir.draw(self._updates.replayed)
            self.learn(torch.cat([images, replayed]), torch.cat([labels, their_labels]))
        self._reservoir.offer(images, labels)

    def encode(self, number: int, labels: Tensor) -> Tensor:
        """Labels [n] of a task -> integers [n] that encode the task and the column."""
        return number * len(self._column) + self._tasks[number][labels]

    def learn(self, images: Tensor, encoded: Tensor) -> None:
        """Take one step of SGD on images [n, C, H, W] in model space; each is classified within its own task."""
        numbers, columns = encoded // len(self._column), encoded % len(self._column)
        mask, columns = self._mask()[numbers].to(self.device), columns.to(self.device)
        logits = fused_logits(self._network, self._parameters, images.to(self.device)) + mask
        gradients = torch.autograd.grad(cross_entropy(logits, columns), list(self._leaves.values()))
        with torch.no_grad():
            torch._foreach_add_(list(self._leaves.values()), gradients, alpha=-self._updates.rate)

    def _mask(self) -> Tensor:
        """[tasks, columns]: zero for the classes of a task, minus infinity for all others."""
        mask = torch.full((len(self._tasks), len(self._column)), -torch.inf)
        for row, columns in zip(mask, self._tasks, strict=True):
            row[columns] = 0
        return mask

    def finish(self) -> None:
        """Do nothing: the network and the reservoir are all that is kept."""

    def predictor(self, number: int) -> Predict:
        columns = self._tasks[number]

        @torch.no_grad()
        def predict(pixels: Tensor) -> Tensor:
            images = self.preprocessing.to_model(pixels).to(self.device)
            logits = fused_logits(self._network, self._parameters, images).cpu()
            return logits[:, columns].argmax(dim=1)

        return predict

    def numbers(self) -> int:
        return self._reservoir.numbers()

    def state(self) -> State:
        values: dict[str, Any] = {"tasks": self._names}
        tensors = prefixed("network", {name: leaf.detach() for name, leaf in self._leaves.items()})
        tensors |= prefixed("reservoir", self._reservoir.tensors()) | {"generator": self._generator.get_state()}
        return State(values, tensors)

    def restore(self, state: State) -> None:
        self._names = [list(classes) for classes in state.values["tasks"]]
        self._tasks = [self._columns(classes) for classes in self._names]
        with torch.no_grad():
            for name, value in with_prefix("network", state.tensors).items():
                self._leaves[name].copy_(value)
        self._reservoir.restore(with_prefix("reservoir", state.tensors))
        self._generator.set_state(state.tensors["generator"])
