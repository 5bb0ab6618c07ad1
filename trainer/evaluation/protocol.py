"""Evaluation protocols: the named schedules for training the evaluated networks, and overrides of them."""

from __future__ import annotations

from dataclasses import dataclass

from recall_server.core.training.augmentation import AUGMENTATIONS
from recall_server.core.training.retraining import USUAL_RATES, Retraining
from trainer.evaluation.evaluate import paper_protocol

PROTOCOLS = ("paper", "common", "bundle")
COMMON_STEPS, COMMON_BATCH = 300, 100


def common_protocol(retraining: Retraining, *, queries: int, rows: int) -> Retraining:
    """The same training for every memory: 300 steps of SGD on up to 100 images, without augmentation.

    The rate falls from 0.01 (USUAL_RATES) by a cosine, with momentum 0.9. At one and at ten images per class of ten
    classes that is the number of steps of Zhao et al. (2021). The loss is that which the targets need.
    """
    return retraining.model_copy(
        update={
            "steps": COMMON_STEPS,
            "learning_rate": USUAL_RATES[retraining.loss],
            "momentum": 0.9,
            "weight_decay": 0.0,
            "rows_per_class": max(1, min(rows, COMMON_BATCH // queries)),
            "decay": "cosine",
            "augmentation": "none",
            "order": "random",
            "rates": (),
        }
    )


@dataclass(frozen=True)
class Protocol:
    """`paper` (300 epochs at 0.01), `common` (300 steps) or `bundle` (its own schedule), with optional overrides.

    Raises ValueError for an unknown name or augmentation, and for both `epochs` and `steps`.
    """

    name: str = "paper"
    epochs: int | None = None
    steps: int | None = None
    augmentation: str | None = None

    def __post_init__(self) -> None:
        if self.name not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.name!r}; use {', '.join(PROTOCOLS)}")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("--epochs and --steps both set the length of the training; leave one of them out")
        if self.augmentation is not None and self.augmentation not in AUGMENTATIONS:
            raise ValueError(f"unknown augmentation {self.augmentation!r}; use {', '.join(AUGMENTATIONS)}")

    def schedule(self, retraining: Retraining, *, queries: int, rows: int) -> Retraining:
        """The schedule for training on `rows` images of each of `queries` queries; an epoch uses each image once."""
        if self.name == "paper":
            retraining = paper_protocol(retraining, queries=queries, rows=rows)
        if self.name == "common":
            retraining = common_protocol(retraining, queries=queries, rows=rows)
        steps = retraining.steps if self.steps is None else self.steps
        if self.epochs is not None:
            steps = self.epochs * -(-rows // min(rows, retraining.rows_per_class))
        changed = {"steps": steps, "augmentation": self.augmentation or retraining.augmentation}
        return Retraining.model_validate(retraining.model_dump() | changed)

    def __str__(self) -> str:
        """The protocol's name in measurements, unique to its settings."""
        parts = [self.name]
        parts += [] if self.epochs is None else [f"{self.epochs} epochs"]
        parts += [] if self.steps is None else [f"{self.steps} steps"]
        parts += [] if self.augmentation is None else [f"augmentation {self.augmentation}"]
        return ", ".join(parts)
