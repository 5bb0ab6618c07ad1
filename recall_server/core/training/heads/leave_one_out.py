"""What a linear head would say of a picture if one of the items that it was trained on had been left out.

The head is retrained without each item in turn, by its own schedule: the same steps, the same drawn rows, and the mean
loss of the items that remain. A linear head that begins at zero stays in the span of its items, so a training needs
their inner products alone (the dual form): weights are sums of items, and the bias is one more feature, which is 1. All
trainings run side by side in float64. A schedule of one step has a closed form.

The influence of an item on a class is the log-odds of the class with the item, less the log-odds without it (the leave-
one-out influence that Koh and Liang, "Understanding black-box predictions via influence functions", ICML 2017,
approximate): log(p / (1 - p)) = z_c - log of the sum of exp(z_j) over the other classes j.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, final

import torch
from torch import Tensor

from recall_server.core.training.minibatches import minibatches
from recall_server.core.training.retraining import Retraining, learning_rate

MOST_OPERATIONS: Final = 5 * 10**10  # of all trainings: some seconds of two processors
STEP_COST: Final = 50  # operations on each number of a head in a step, beside the products
MOST_NUMBERS: Final = 2**23  # of all heads, which are kept: 64 MiB
NUMBERS_AT_ONCE: Final = 2**22  # of the logits of several trainings


@final
@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The logits of a head, and of the heads without each of its n items [n, D].

    `shares` [n, k] are the head in terms of its items, and `without` [n, n, k] those of the heads without each item,
    which the second dimension counts.
    After one step `without` is None: leaving out an item takes its share away, and the rest counts `regained` times as
    much.
    """

    items: Tensor
    shares: Tensor
    without: Tensor | None
    regained: Tensor

    @property
    def size(self) -> int:
        """Bytes, about."""
        tensors = (self.items, self.shares, self.regained, *([] if self.without is None else [self.without]))
        return sum(tensor.nbytes for tensor in tensors)

    def weights(self) -> tuple[Tensor, Tensor]:
        """The weights [k, D] and the bias [k] of the head of all items, float64."""
        return self.shares.T @ self.items.double(), self.shares.sum(dim=0)

    def logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The logits [k] of features [D] in the space of the items, and those without each item [n, k], float64."""
        products = self.items.double() @ features.double() + 1  # [n]
        logits = products @ self.shares
        if self.without is not None:
            return logits, (products @ self.without.flatten(1)).view_as(self.shares)
        return logits, self.regained[:, None] * (logits - products[:, None] * self.shares)


def log_odds(logits: Tensor, label: int) -> Tensor:
    """Logits [..., k] -> the log-odds [...] of the class at this position."""
    others = torch.cat([logits[..., :label], logits[..., label + 1 :]], dim=-1)
    return logits[..., label] - others.logsumexp(dim=-1)


def leave_one_out(images: Tensor, targets: Tensor, retraining: Retraining, seed: int) -> LeaveOneOut:
    """Train a linear head on items [q, r, D, 1, 1], and without each of them, as `FreshClassifier.fit` does.

    `targets` are [q, r or 1, k]. Raises ValueError, with one sentence, for another network, for a schedule with
    augmentation, and for more than MOST_OPERATIONS or MOST_NUMBERS.
    """
    if retraining.network.architecture != "linear" or retraining.augmentation != "none":
        raise ValueError("only linear heads that are trained without augmentation can be retrained exactly")
    queries, rows = images.shape[:2]
    _check_size(queries * rows, targets.shape[-1], queries * min(rows, retraining.rows_per_class), retraining.steps)
    items = images.reshape(queries * rows, -1)
    aims = targets.double().expand(-1, rows, -1).flatten(0, 1)  # [n, k]
    batches = islice(_drawn(queries, rows, retraining, seed), retraining.steps)
    if retraining.steps == 1:
        return _one_step(items, aims, retraining, next(batches))
    everything = torch.ones(len(items), 1, dtype=torch.double)
    kept = torch.cat([everything, 1 - torch.eye(len(items), dtype=torch.double)], dim=1)
    shares = _train(items.double() @ items.double().T + 1, aims, retraining, list(batches), kept)
    return LeaveOneOut(items, shares[:, 0], shares[:, 1:].contiguous(), torch.ones(0, dtype=torch.double))


def _check_size(items: int, classes: int, drawn: int, steps: int) -> None:
    numbers = items * items * classes
    if steps > 1 and (numbers > MOST_NUMBERS or numbers * (drawn + STEP_COST) * steps > MOST_OPERATIONS):
        raise ValueError(f"retraining without each of {items:,} items of {classes:,} classes takes too long")


def _drawn(queries: int, rows: int, retraining: Retraining, seed: int) -> Iterator[Tensor]:
    """The positions [m], among all items, of those of each step of a training with this seed."""
    positions = torch.arange(queries * rows, dtype=torch.double).view(queries, rows, 1, 1, 1)
    nothing = torch.zeros(queries, 1, 1)
    for batch, _ in minibatches(positions, nothing, retraining, torch.Generator().manual_seed(seed)):
        yield batch.flatten().long()


def _one_step(items: Tensor, aims: Tensor, retraining: Retraining, batch: Tensor) -> LeaveOneOut:
    """One step from zero, where every class has the same logit."""
    at_zero = 1 / aims.shape[1] if retraining.loss == "cross_entropy" else 0.0
    shares = torch.zeros_like(aims)
    # Targets need not sum to one: the gradient of the cross-entropy is their sum times the probabilities, less targets.
    gradient = at_zero * aims[batch].sum(dim=1, keepdim=True) - aims[batch]
    shares[batch] = -learning_rate(retraining, 0) / len(batch) * gradient
    regained = torch.ones(len(items), dtype=torch.double)
    regained[batch] = len(batch) / (len(batch) - 1)
    return LeaveOneOut(items, shares, None, regained)


def _train(products: Tensor, aims: Tensor, retraining: Retraining, batches: list[Tensor], kept: Tensor) -> Tensor:
    """Heads [n, L, k] in terms of items with inner products [n, n], trained on those that each of L trainings keeps.

    `kept` [n, L] is 1 or 0.
    """
    together = max(1, NUMBERS_AT_ONCE // aims.numel())
    some = torch.split(kept, together, dim=1)
    return torch.cat([_trained(products, aims, retraining, batches, each) for each in some], dim=1)


def _trained(products: Tensor, aims: Tensor, retraining: Retraining, batches: list[Tensor], kept: Tensor) -> Tensor:
    shares = torch.zeros(len(aims), kept.shape[1], aims.shape[1], dtype=torch.double)
    velocity = torch.zeros_like(shares)
    for done, batch in enumerate(batches):
        weights = kept[batch] / kept[batch].sum(dim=0).clamp(min=1)  # [m, L]
        targets = aims[batch].unsqueeze(1)  # [m, 1, k]
        found = (products[batch] @ shares.flatten(1)).view(len(batch), *shares.shape[1:])  # logits [m, L, k]
        if retraining.loss == "cross_entropy":
            found = found.softmax(dim=-1).mul_(targets.sum(dim=-1, keepdim=True))
        velocity.mul_(retraining.momentum)
        velocity.index_add_(0, batch, found.sub_(targets).mul_(weights.unsqueeze(-1)))
        if retraining.weight_decay:
            velocity.add_(shares, alpha=retraining.weight_decay)
        shares.sub_(velocity, alpha=learning_rate(retraining, done))
    return shares
