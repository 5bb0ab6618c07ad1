"""Labelled images in the order of a memory: the same number for each class, with a target for each image."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from recall_server.core.memory import Targets
from recall_server.errors import InvalidDataset
from trainer.data.imported.files import LabelledImages

Meaning = Literal["probabilities", "logits", "values"]

ROUNDING = 1e-3  # of the sum of a row of probabilities
SMALLEST = 1e-6  # share of a class


class Grouped(NamedTuple):
    """`items` [k, r, C, H, W] and their targets; `classes` are the names of the k classes."""

    items: Tensor
    targets: Targets
    classes: tuple[str, ...]


def grouped(
    source: LabelledImages,
    *,
    classes: tuple[str, ...] | None = None,
    per_class: int | None = None,
    meaning: Meaning | None = None,
) -> Grouped:
    """The first `per_class` images of each class; by default all of them, if each class has the same number.

    `classes` are names for a file that has none; without names, classes are numbered. `meaning` is that of rows of
    numbers that are not probabilities. An image with a row of numbers belongs to the class with the largest one. Raises
    InvalidDataset, with one sentence.
    """
    count = source.labels.shape[1] if source.labels.ndim == 2 else int(source.labels.max()) + 1
    names = classes or source.classes or tuple(map(str, range(count)))
    if source.labels.ndim == 2 and len(names) != count or len(names) < count:
        raise InvalidDataset(f"{source.name} has labels of {count} classes, but {len(names)} names of classes")
    if len(names) < 2 or len(set(names)) < len(names) or int(source.labels.min()) < 0 and source.labels.ndim == 1:
        raise InvalidDataset(f"{source.name}: there must be two or more classes with different names, numbered from 0")
    owners = source.labels.argmax(dim=1) if source.labels.ndim == 2 else source.labels
    order = _order(owners, names, per_class, source.name)
    items = source.images[order].reshape(len(names), -1, *source.images.shape[1:])
    targets = Targets()
    if source.labels.ndim == 2:
        targets = _targets(source.labels[order].reshape(len(names), -1, len(names)), meaning, source.name)
    elif meaning is not None:
        raise InvalidDataset(f"{source.name} has one label per image, so there are no {meaning}; leave --labels out")
    return Grouped(items, targets, tuple(names))


def _order(owners: Tensor, names: tuple[str, ...], per_class: int | None, name: str) -> Tensor:
    """Indices [k * r] of images, class after class."""
    counts = torch.bincount(owners, minlength=len(names))
    fewest, most = int(counts.min()), int(counts.max())
    rows = per_class or fewest
    if fewest < max(1, rows):
        poorest = names[int(counts.argmin())]
        raise InvalidDataset(f"{name} has {fewest} images of {poorest}; a memory needs {max(1, rows)} of each class")
    if per_class is None and fewest < most:
        raise InvalidDataset(
            f"{name} has between {fewest} and {most} images of a class, but a memory has as many of each; "
            f"say --per-class {fewest} to take the first {fewest}"
        )
    return torch.cat([torch.nonzero(owners == label).flatten()[:rows] for label in range(len(names))])


def _targets(rows: Tensor, meaning: Meaning | None, name: str) -> Targets:
    """Soft or unbounded targets from rows of numbers [k, r, k]."""
    sums = rows.sum(dim=2)
    probable = bool((rows >= 0).all()) and float((sums - 1).abs().max()) < ROUNDING
    if meaning is None and not probable:
        raise InvalidDataset(
            f"{name}: the labels are no probabilities, for example numbers with the sum {float(sums.flatten()[0]):g}; "
            "say --labels logits if their softmax is meant, or --labels values for numbers to be met by squared error"
        )
    if meaning == "probabilities" and not probable:
        raise InvalidDataset(f"{name}: the labels are no probabilities; each row must be 0 or more, with the sum 1")
    if meaning == "values":
        return Targets("unbounded", rows)
    logits = rows if meaning == "logits" else rows.clamp(min=SMALLEST).log()
    hard = torch.eye(len(rows)).unsqueeze(1).expand_as(rows)
    return Targets() if meaning != "logits" and torch.equal(rows, hard) else Targets("soft", logits)
