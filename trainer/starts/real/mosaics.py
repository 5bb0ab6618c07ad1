"""Small real pictures with soft labels of a frozen encoder, without a gradient step (RDED, Sun et al., 2024).

The teacher is a linear head on the encoder's features. It sees candidates as the memory recalls them: shrunk, and
enlarged again. Those with the smallest loss are kept. Their labels are the teacher's probabilities at a temperature,
which say what a small picture shows of other classes. Logits are centred over all candidates first, because small
pictures look more like some classes than like others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self, final

import torch
from torch import Tensor

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.memory import AbstractMemory, Targets
from recall_server.core.preprocessing import AbstractPreprocessing
from trainer.data.splits import Split
from trainer.starts.features.linear_head import softmax_head

RIDGE: Final = 1e-2  # of the teacher

Featurise = Callable[[Tensor], Tensor]  # pictures uint8 [N, C, H, W] -> features [N, D, 1, 1], such as a Featuriser
Holding = Callable[[Tensor], AbstractMemory]  # items [k, r, C, H, W] in model space -> the memory that stores them


class Candidates(NamedTuple):
    """Pictures of a class in model space, [n, C, H, W], and the teacher's logits [n, k] of how they are recalled."""

    items: Tensor
    logits: Tensor


@final
@dataclass(frozen=True, eq=False)
class Teacher:
    """A linear head on features, for memories whose model space is that of `preprocessing`."""

    head: LinearHead
    featurise: Featurise
    preprocessing: AbstractPreprocessing

    @classmethod
    def taught(cls, pictures: Split, classes: int, featurise: Featurise, preprocessing: AbstractPreprocessing) -> Self:
        """The head that is trained on the features of these pictures."""
        features = unit_features(featurise, pictures.images)
        head = softmax_head(features, pictures.labels, classes, RIDGE, bias=False)
        return cls(head, featurise, preprocessing)

    def candidates(self, members: Split, rows: int, holding: Holding) -> Candidates:
        """Pictures of one class, with the logits of each as `holding` recalls it."""
        whole = -(-len(members) // rows) * rows  # memories recall multiples of `rows` pictures
        items = self.preprocessing.to_model(members.select(torch.arange(whole) % len(members)).pixels())
        features = recalled_features(holding(items.unsqueeze(0)), self.preprocessing, self.featurise)
        return Candidates(items[: len(members)], self.head.logits(features)[: len(members)])


def draw_pool(split: Split, classes: int, each: int, generator: torch.Generator) -> Split:
    """`each` random pictures of every class, or all of a class with fewer, class after class."""
    drawn = []
    for label in range(classes):
        members = torch.nonzero(split.labels == label).flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:each]])
    return split.select(torch.cat(drawn))


def labelled_pictures(
    pictures: Split, teacher: Teacher, *, pool: int, rows: int, temperature: float, holding: Holding
) -> AbstractMemory:
    """A memory of `rows` pictures of each class with soft targets: those of the first `pool` with the smallest loss.

    A class with fewer than `rows` pictures repeats them.
    """
    classes = len(teacher.head.weights)
    candidates = [teacher.candidates(pictures.of_class(label, pool), rows, holding) for label in range(classes)]
    centre = torch.stack([each.logits.mean(dim=0) for each in candidates]).mean(dim=0)
    kept = []
    for label, own in enumerate(candidates):
        order = own.logits.log_softmax(dim=1)[:, label].argsort(descending=True, stable=True)
        best = order[torch.arange(rows) % len(order)]
        kept.append(Candidates(own.items[best], (own.logits[best] - centre) / temperature))
    targets = Targets("soft", torch.stack([each.logits for each in kept]))
    return holding(torch.stack([each.items for each in kept])).with_targets(targets)


def recalled_features(memory: AbstractMemory, preprocessing: AbstractPreprocessing, featurise: Featurise) -> Tensor:
    """Features [k * r, D] of all pictures of a memory, class after class."""
    pixels = preprocessing.to_pixels(memory.items(torch.eye(memory.query_size)).flatten(0, 1))
    return unit_features(featurise, (255 * pixels.clamp(0, 1)).round().to(torch.uint8))


def unit_features(featurise: Featurise, images: Tensor) -> Tensor:
    """Features [N, D] of pictures uint8 [N, C, H, W]; their mean square is one if the encoder normalises them."""
    features = featurise(images).flatten(1).float()
    scaled: Tensor = features * features.shape[1] ** 0.5
    return scaled
