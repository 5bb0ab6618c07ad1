"""A run divided into parts that need not know of each other, for machines with many cores.

A task's memory depends on nothing but its samples, its number and the seed, unless it starts from finished memories
(`reuse`); so every task is a part. Networks that are trained through the whole stream, and what they are compared with,
are another part, and joint training is the last. Together the parts are the whole run, to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recall_server.errors import InvalidDataset
from trainer.streams.experiment import Experiment, judge_every
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.learners.recipe import StreamMethod
from trainer.streams.run import StreamRun
from trainer.streams.scores import Scores
from trainer.streams.sources.task import AbstractStream

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Part:
    """`recall` of one task, or of all where `task` is None; all `baselines`; `joint` training."""

    kind: Literal["recall", "baselines", "joint"]
    task: int | None = None

    def __str__(self) -> str:
        return self.kind if self.task is None else f"{self.kind} {self.task}"


def divide(recipe: StreamMethod, tasks: int, *, baselines: bool, joint: bool) -> list[Part]:
    """The parts of a run: the long ones first, then tasks in such an order that the first few stand for all."""
    parts = [Part("baselines")] * baselines + [Part("joint")] * joint
    return parts + ([Part("recall")] if recipe.reuse else [Part("recall", task) for task in spaced(tasks)])


def spaced(count: int) -> list[int]:
    """0..count-1, each once, so that however many one takes, they are spread evenly."""
    step = next((step for step in range(round(GOLDEN * count), count) if math.gcd(step, count) == 1), 1)
    return [place * step % count for place in range(count)]


def prepare_part(
    experiment: Experiment,
    part: Part,
    stream: AbstractStream,
    *,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = lambda sentence: None,
) -> StreamRun:
    """The run of a part, at its beginning; of joint training there is none. `stream` is the experiment's.

    Raises ValueError for one task of a recipe that needs those before it.
    """
    first = stream.task(0)
    if first is None:
        raise InvalidDataset(f"{stream.name} has no task")
    recall, *others = experiment.learners(stream, first)
    assert isinstance(recall, CompressThenRecall), "ours comes first"
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
    """The scores of parts as those of one run of so many tasks; of those that are there, where some are missing.

    A finished task is as good at every later moment as it was when it ended.
    """
    scores = Scores()
    for part in sorted(parts, key=lambda part: CompressThenRecall.name not in part.rows):  # ours first
        for learner, rows in part.rows.items():
            for after, row in rows.items():
                for task, accuracy in row.items():
                    scores.add(learner, after=after, task=task, accuracy=accuracy)
    ours = scores.rows.get(CompressThenRecall.name, {})
    ended = {task: row[task] for task, row in ours.items()}
    for after in range(tasks):
        for task, accuracy in ended.items():
            if task < after:
                scores.add(CompressThenRecall.name, after=after, task=task, accuracy=accuracy)
    return scores
