"""Performance matching through the inner loop: train a fresh network on what was recalled, score it on real items.

Backpropagation through training with full momentum is the paper's objective (section 4). With a window of M steps
within a randomly drawn number of steps it is RaT-BPTT (Feng et al., 2024), which costs a fraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor

from recall_server.core.memory import Recalled
from recall_server.core.networks import AbstractNetwork
from recall_server.core.training.augmentation import augment
from recall_server.core.training.descent import logits_of_images
from recall_server.core.training.minibatches import rows_in_sequence
from recall_server.core.training.retraining import Retraining
from trainer.objectives.attacks import AbstractAttack, NoAttack
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.inner.inner_training import AbstractInnerTraining, Momentum
from trainer.objectives.inner.steps.step import AbstractInnerStep
from trainer.objectives.queries import leaf
from trainer.objectives.sampler import OuterBatch, Sampler

Order = Literal["random", "sequence"]

LOG_RATE = "log_rate"  # the learned tensor that holds the logarithm of the step size
HIGHEST_RATE = 10.0  # that a manifest takes


@final
@dataclass(frozen=True, eq=False)
class Unrolled(AbstractObjective):
    """`steps` is the longest training; its last `window` steps are differentiated.

    With window == steps every training has exactly that length (the paper); otherwise the length is drawn uniformly
    from window..steps for every outer step. `classes_per_step` classes take part in an outer step (0: all), with about
    `real_batch` real items. Each inner step sees `rows_per_class` rows of every query, drawn without replacement.
    `augmentation` is drawn for every item of every step, and for the real ones. Networks are trained by `training`
    (SGD with fully differentiated momentum unless given) at `rate`, or at a learned rate that begins there. Learned
    layers that networks begin with get a gradient too, to the first order: as if the steps before the window added a
    constant to them. In the order "sequence" rows follow each other from step to step, as in `Retraining`, and with a
    vector of learned rates each step has its own (Wang et al., 2018). The real items are changed by `attack` on the
    network that was trained; how the attack depends on this network is not differentiated (Madry et al., 2018).
    """

    step: AbstractInnerStep
    steps: int
    window: int
    rate: float
    rows_per_class: int
    classes_per_step: int = 0
    real_batch: int = 256
    augmentation: tuple[str, ...] = ()
    training: AbstractInnerTraining = field(default_factory=lambda: Momentum(0.9))
    log_rate: Tensor | None = None  # a scalar, or one for each step [steps]
    order: Order = "random"
    attack: AbstractAttack = NoAttack()

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.steps:
            raise ValueError(f"a window of {self.window} does not lie within 1..{self.steps} inner steps")

    @property
    def network(self) -> AbstractNetwork:
        return self.step.network

    def learned(self) -> dict[str, Tensor]:
        return {} if self.log_rate is None else {LOG_RATE: self.log_rate}

    def retraining(self, schedule: Retraining, tensors: Mapping[str, Tensor]) -> Retraining:
        """The schedule with the step sizes that were learned along with the memory, where any were."""
        if LOG_RATE not in tensors:
            return schedule
        rates = tensors[LOG_RATE].detach().exp().clamp(max=HIGHEST_RATE)
        found: dict[str, object] = {"learning_rate": rates.mean().item()}
        if rates.ndim:
            found["rates"] = tuple(float(f"{rate:.6g}") for rate in rates.tolist())
        return schedule.model_copy(update=found)

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.draw_batch(self.real_batch, generator, classes=self.classes_per_step)
        return self.score(batch, generator)

    def score(self, batch: OuterBatch, generator: torch.Generator) -> Tensor:
        """The loss on the real items of a network trained on the recalled ones."""
        device = batch.recalled.items.device
        length = int(torch.randint(self.window, self.steps + 1, (), generator=generator))
        pretrained = batch.pretrained
        first = self.network.initialise(generator) if pretrained is None else self.network.initialise_from(pretrained)
        parameters = {name: value.detach().to(device) for name, value in first.items()}
        index = self._draw_rows(length, batch.recalled, generator).to(device)
        rate = torch.tensor(self.rate, device=device) if self.log_rate is None else self.log_rate.exp()
        rate = rate[:length] if rate.ndim else rate

        before = length - self.window
        with torch.no_grad():
            items, targets = self._minibatches(batch.recalled, index[:before], generator)
        state = self.training.train(self.step, self.training.begin(parameters, rate), items, targets)
        if pretrained is not None:
            started = {name: value.to(device) for name, value in first.items()}
            bridged = {name: _straight_through(value, started[name]) for name, value in state.parameters.items()}
            state = state._replace(parameters=bridged)
        items, targets = self._minibatches(batch.recalled, index[before:], generator)
        parameters = self.training.unroll(self.step, state, items, targets).parameters
        real = augment(batch.items, self.augmentation, generator)
        trained = {name: value.detach() for name, value in parameters.items()}
        attacked = self.attack(partial(logits_of_images, self.network, trained), real, batch.targets, generator)
        return self.step.evaluate(parameters, attacked, batch.targets)

    def _draw_rows(self, length: int, recalled: Recalled, generator: torch.Generator) -> Tensor:
        """[length, q, rows_per_class] distinct rows of every query for every inner step."""
        queries, rows = recalled.items.shape[:2]
        if self.order == "sequence":
            each = min(rows, self.rows_per_class)
            return torch.stack([rows_in_sequence(done, rows, each).expand(queries, each) for done in range(length)])
        keys = torch.rand(length, queries, rows, generator=generator)
        return keys.argsort(dim=2)[:, :, : self.rows_per_class]

    def _minibatches(self, recalled: Recalled, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """index [T, q, n] -> items [T, q * n, *shape] and targets [T, q * n, k]."""
        steps, queries, drawn = index.shape
        query = torch.arange(queries, device=index.device).view(1, queries, 1).expand_as(index)
        items = recalled.items[query, index].flatten(0, 2)  # [T * q * n, *shape]
        items = augment(items, self.augmentation, generator).reshape(steps, queries * drawn, *items.shape[1:])
        if recalled.targets.shape[1] == 1:
            shared = recalled.targets[:, 0].repeat_interleave(drawn, dim=0)
            return items, shared.expand(steps, *shared.shape)
        return items, recalled.targets[query, index].flatten(1, 2)


def learned_rate(rate: float, device: torch.device, steps: int | None = None) -> Tensor:
    """The logarithm of a step size, or of the sizes of so many steps, to be optimised."""
    return leaf(torch.full(() if steps is None else (steps,), rate, device=device).log())


def _straight_through(later: Tensor, first: Tensor) -> Tensor:
    """`later` with the gradient of `first`: what steps before the window have added to it is a constant."""
    return later + (first - first.detach())
