"""Divides a run into independent parts, for machines with many cores.

A task's memory depends only on its samples, its number and the seed, unless it starts from finished memories (`reuse`),
so every task is a part. The baselines, which are trained through the whole stream, are another part, and joint training
is the last. Together the parts give the same bits as one run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recall_server.errors import InvalidDataset
from trainer.streams.experiment import StreamExperiment, judge_every
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.methods import StreamMethod
from trainer.streams.run import StreamRun
from trainer.streams.scores import Scores
from trainer.streams.sources.task import AbstractStream

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Part:
    """`recall` of one task, or of all if `task` is None; all `baselines`; or `joint` training."""

    kind: Literal["recall", "baselines", "joint"]
    task: int | None = None

    def __str__(self) -> str:
        return self.kind if self.task is None else f"{self.kind} {self.task}"


def divide(method: StreamMethod, tasks: int, *, baselines: bool, joint: bool) -> list[Part]:
    """The parts of a run: the longest first, then the tasks in an order whose first few are representative."""
    parts = [Part("baselines")] * baselines + [Part("joint")] * joint
    return parts + ([Part("recall")] if method.stream.reuse else [Part("recall", task) for task in spaced(tasks)])


def spaced(count: int) -> list[int]:
    """A permutation of 0..count-1 of which every prefix is spread evenly."""
    step = next((step for step in range(round(GOLDEN * count), count) if math.gcd(step, count) == 1), 1)
    return [place * step % count for place in range(count)]


def prepare_part(
    experiment: StreamExperiment,
    part: Part,
    stream: AbstractStream,
    *,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = lambda sentence: None,
) -> StreamRun:
    """The run of a part, not yet started; joint training has none. `stream` is the experiment's stream.

    Raises ValueError for a single task of a method that needs the earlier tasks.
    """
    first = stream.task(0)
    if first is None:
        raise InvalidDataset(f"{stream.name} has no task")
    recall, *others = experiment.learners(stream, first)
    assert isinstance(recall, CompressThenRecall), "compress-then-recall is the first learner"
    for number in range(part.task or 0):
        if (earlier := stream.task(number)) is not None:
            recall.skip(earlier.header)
    return StreamRun(
        stream,
        [recall] if part.kind == "recall" else others,
        description=experiment.description(stream, first.header) | {"part": str(part)},
        judge_every=judge_every(stream),
        tasks=None if part.task is None else range(part.task, part.task + 1),
        checkpoint=checkpoint,
        report=report,
    )


def together(parts: Iterable[Scores], tasks: int) -> Scores:
    """The scores of the given parts, merged as in one run of `tasks` tasks; some parts may be missing.

    The accuracy on a finished task of compress-then-recall does not change later.
    """
    scores = Scores()
    for part in sorted(parts, key=lambda part: CompressThenRecall.name not in part.rows):  # compress-then-recall first
        for learner, rows in part.rows.items():
            for after, row in rows.items():
                for task, accuracy in row.items():
                    scores.add(learner, after=after, task=task, accuracy=accuracy)
    recalled = scores.rows.get(CompressThenRecall.name, {})
    finished = {task: row[task] for task, row in recalled.items()}
    for after in range(tasks):
        for task, accuracy in finished.items():
            if task < after:
                scores.add(CompressThenRecall.name, after=after, task=task, accuracy=accuracy)
    return scores
