"""The audit of a memory: attacks by what it shows of members and of other pictures, with shadow memories if asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import torch

from trainer.data.splits import Split
from trainer.evaluation.audit.attack import Attack, chance, measure
from trainer.evaluation.audit.likelihood_ratio import halves, log_ratios
from trainer.evaluation.audit.neighbours import Neighbours, neighbours
from trainer.evaluation.audit.pictures import AuditPictures
from trainer.evaluation.audit.shown import STATISTICS, Attacked, shown
from trainer.run.audit.shadows import MakeShadow

MOST: Final = 2000  # pictures of each side that are attacked; shadows are made from all


class Audit(NamedTuple):
    """Attacks by each statistic on so many members and others, and the nearest pictures of recalled items.

    `chance` is the advantage that guessing exceeds once in twenty times.
    """

    members: int
    others: int
    shadows: int
    attacks: Mapping[str, Attack]
    chance: float
    neighbours: Neighbours

    @property
    def strongest(self) -> str:
        """The statistic with the largest area."""
        return max(self.attacks, key=lambda name: self.attacks[name].auroc.value)


def audit(
    attacked: Attacked,
    labels: Sequence[str],
    pictures: AuditPictures,
    make_shadow: MakeShadow | None,
    *,
    shadows: int,
    seed: int,
    device: torch.device,
    made: Callable[[], None] = lambda: None,
) -> Audit:
    """Attack a memory of these labels. Without `make_shadow`, the statistics themselves are the scores.

    `made` is called after each shadow memory. Raises ValueError for a number of shadows that makes no pairs.
    """
    generator = torch.Generator().manual_seed(seed)
    pool, first = pictures.pool, len(pictures.members)
    mine = _some(first, generator)
    place = torch.cat([mine, first + _some(len(pictures.others), generator)])
    judged = pool.select(place)

    def seen(each: Attacked) -> torch.Tensor:
        return shown(each, judged, labels, seed=seed, device=device)

    scores = seen(attacked)  # [2, N]
    if make_shadow is not None:
        inside, says = halves(pool.labels, shadows, generator), []
        for number, chosen in enumerate(inside):
            says.append(seen(make_shadow(pool.select(chosen), pool.select(~chosen), seed + 1 + number)))
            made()
        each = zip(scores, torch.stack(says, dim=1), strict=True)
        scores = torch.stack([log_ratios(own, others, inside[:, place]) for own, others in each])
    attacks = {
        name: measure(score[: len(mine)], score[len(mine) :], generator)
        for name, score in zip(STATISTICS, scores, strict=True)
    }
    near = neighbours(attacked, *_sides(judged, len(mine)), generator)
    others = len(place) - len(mine)
    return Audit(len(mine), others, shadows, attacks, chance(len(mine), others), near)


def _some(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randperm(count, generator=generator)[:MOST]


def _sides(split: Split, members: int) -> tuple[Split, Split]:
    index = torch.arange(len(split))
    return split.select(index < members), split.select(index >= members)
