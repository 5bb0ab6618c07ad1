"""Retained accuracy on streams of tasks: compress-then-recall and baselines with exactly the same memory.

    python -m benchmarks.stream [--stream rotations ...] [--seeds 5] [--method paper|window] [--plot FOLDER] [--quick]
                                [--results FILE] [--processes N] [--minutes M] [--state FOLDER]

Every seed draws its own stream. Compress-then-recall, online SGD, experience replay and one random real image per class
learn it side by side in one pass with minibatches of ten; joint training is the upper bound. The test set is read at
the end of a task. `seconds` shows where the time goes; `tasks_per_minute` counts only compress-then-recall, from the
first minibatch to the finished memory; `resident_mebibytes` is the memory of the process after every tenth of the
tasks. --stream takes rows [METHOD:]STREAM[:SEEDS] in order of priority: `paper:rotations:3 window:many`. --validate
tests on held-out training pictures, for choosing settings. --plot writes a plot per stream of the mean accuracy over
the tasks seen (it needs matplotlib). --quick: three tasks of rotated digits with few samples.

--processes N works on N parts at a time, with one thread each: single tasks of a seed if their memories are
independent, else all its tasks; its baselines; its joint training. The scores have the same bits as those of one pass.
Seconds are sums over parts that shared a machine with `processes` others. --results saves figures to a file as they
come; saved figures are not measured again. --minutes stops after that time; with --state, unfinished parts continue
from FOLDER in the next run. `unfinished` has the mean over the finished tasks of incomplete seeds. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command import KeptCells, command_parser, print_figures
from benchmarks.stream_division import divide, together
from benchmarks.stream_parts import Job, Record, run_all
from trainer.cli.commands import pick_device
from trainer.streams import scores as results
from trainer.streams.experiment import StreamExperiment
from trainer.streams.learners.compress import CompressThenRecall
from trainer.streams.methods import METHODS, compose_stream
from trainer.streams.plot import plot_scores
from trainer.streams.scores import Scores
from trainer.streams.sources.named import STREAMS

QUICK = "digits-rotations"
QUICK_SETTINGS = ["stream.bases=8", "objective.steps=20", "objective.window=10", "outer.steps=2"]
OURS = CompressThenRecall.name


@dataclass(frozen=True)
class Row:
    """Some seeds of a stream, learned by a method."""

    source: str
    method: str
    seeds: int

    @property
    def name(self) -> str:
        return f"{self.method}:{self.source}"

    @classmethod
    def parse(cls, text: str, method: str, seeds: int) -> Row:
        """Parse `[METHOD:]STREAM[:SEEDS]`; `method` and `seeds` are defaults. Raises ValueError for anything else."""
        words = text.split(":")
        if words[0] in METHODS:
            method = words.pop(0)
        if words[1:]:
            seeds = int(words.pop())
        if len(words) != 1 or words[0] not in STREAMS or seeds < 1:
            raise ValueError(f"{text!r} is not [METHOD:]STREAM[:SEEDS] with one of the streams {', '.join(STREAMS)}")
        return cls(words[0], method, seeds)


@dataclass(frozen=True)
class Run:
    """One seed of one stream, as a single job and as independent jobs."""

    whole: Job
    parts: Sequence[Job]
    tasks: int

    def known(self, kept: Mapping[str, Record]) -> list[Record]:
        """The records of this run that exist."""
        if self.whole.key in kept:
            return [kept[self.whole.key]]
        return [kept[job.key] for job in self.parts if job.key in kept]

    def missing(self, kept: Mapping[str, Record]) -> list[Job]:
        """The jobs that are still to be run."""
        if self.whole.key in kept:
            return []
        missing = [job for job in self.parts if job.key not in kept]
        return missing if self.whole.processes > 1 else [self.whole][: len(missing)]


def planned(row: Row, seed: int, options: argparse.Namespace) -> Run:
    """The run of one seed of a row."""
    overrides = [*(QUICK_SETTINGS if options.quick else []), *options.overrides]
    experiment = StreamExperiment(
        row.source,
        compose_stream(row.method, row.source, overrides),
        seed,
        tasks=options.tasks,
        samples=options.samples,
        validate=options.validate,
        baselines=not options.no_baselines,
        device=options.device,
    )
    whole = Job(
        run_name(row, seed, options),
        experiment,
        joint=not options.no_joint,
        processes=options.processes,
        state=options.state,
        until=options.until,
    )
    tasks = options.tasks or STREAMS[row.source].tasks
    parts = divide(experiment.method, tasks, baselines=experiment.baselines, joint=whole.joint)
    return Run(whole, [replace(whole, key=f"{whole.key}: {part}", part=part) for part in parts], tasks)


def run_name(row: Row, seed: int, options: argparse.Namespace) -> str:
    """The key of a run's figures, with all settings that affect compress-then-recall."""
    given = {"tasks": options.tasks, "samples": options.samples, "validate": options.validate or None}
    settings = [f"{name}={value}" for name, value in given.items() if value is not None]
    return " ".join([row.source, row.method, *settings, *options.overrides, str(seed)])


def joined(records: Sequence[Record], tasks: int) -> Record:
    """The figures of all parts, or of the one whole run, merged as one run of `tasks` tasks."""
    seconds: dict[str, float] = {}
    for record in records:
        for name, value in record["seconds"].items():
            seconds[name] = round(seconds.get(name, 0.0) + value, 1)
    scores = together([Scores.from_json(record["scores"]) for record in records if "scores" in record], tasks)
    ours = seconds.get(OURS)
    return {
        "scores": scores,
        "joint": next((record["joint"] for record in records if record.get("joint")), None),
        "seconds": seconds,
        "seconds_of_all": round(sum(seconds.values()), 1),
        "tasks_per_minute": round(60 * len(scores.last(OURS)) / ours, 2) if ours else 0.0,
        "buffer_numbers": max((record["buffer_numbers"] for record in records if "scores" in record), default=0),
        "peak_mebibytes": max((record["peak_mebibytes"] for record in records), default=0),
        "resident_mebibytes": records[0].get("resident_mebibytes", []) if len(records) == 1 else [],
        "processes": max((record.get("processes", 1) for record in records), default=0),
    }


def summary(row: Row, runs: Sequence[Record], folder: Path | None) -> dict[str, Any]:
    """Print the table of a row, draw its plot, and return its figures by name."""
    scores = [run["scores"] for run in runs]
    joint = [run["joint"] for run in runs if run["joint"] is not None]
    print(f"{row.source}, {row.method}, {len(runs)} seed{'s' if len(runs) > 1 else ''}")
    print(results.table(scores, joint))
    if folder:
        plot_scores(scores, folder / f"{row.source}-{row.method}.png", title=row.source, joint=joint)
    return {
        "learners": results.figures(scores, joint),
        "seeds": len(runs),
        "seconds": runs[-1]["seconds"],
        "seconds_of_all": round(statistics.fmean(run["seconds_of_all"] for run in runs), 1),
        "tasks_per_minute": round(statistics.fmean(run["tasks_per_minute"] for run in runs), 2),
    } | {name: runs[-1][name] for name in ("buffer_numbers", "peak_mebibytes", "resident_mebibytes", "processes")}


def unfinished(run: Record, tasks: int) -> dict[str, Any]:
    """The figures of an incomplete run: the accuracy over its finished tasks."""
    scores = run["scores"]
    seen = len(scores.last(OURS)) if OURS in scores.rows else 0
    return {"tasks": seen, "of": tasks, OURS: round(scores.retained(OURS), 4) if seen else None}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, "results", "quick")
    parser.add_argument("--stream", nargs="+", default=["rotations", "permutations", "many"], help="see above")
    parser.add_argument("--method", default="window")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, help="shorten the streams")
    parser.add_argument("--samples", type=int, help="samples per task")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--no-baselines", action="store_true", help="skip the baselines")
    parser.add_argument("--no-joint", action="store_true", help="skip the upper bound")
    parser.add_argument("--plot", type=Path, help="a folder")
    parser.add_argument("--processes", type=int, default=1, help="parallel processes")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes")
    parser.add_argument("--state", type=Path, help="a folder for the state of unfinished parts")
    parser.add_argument("--device", default="cpu", help="cuda is faster for the ConvNets of cifar100 only")
    parser.add_argument("--threads", type=int, default=1, help="threads per process; more than one rarely helps")
    options = parser.parse_args(arguments)
    if options.processes < 1:
        parser.error("--processes must be 1 or more")
    options.device = pick_device(options.device)
    options.until = None if options.minutes is None else time.time() + 60 * options.minutes
    if options.quick:
        options.stream, options.seeds, options.tasks, options.samples = [QUICK], 1, 3, 300
    try:
        options.rows = [Row.parse(text, options.method, options.seeds) for text in options.stream]
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    file = KeptCells(options.results, {})
    kept: dict[str, Record] = file.cells
    runs = {row: [planned(row, seed, options) for seed in range(row.seeds)] for row in options.rows}
    missing = [job for several in runs.values() for run in several for job in run.missing(kept)]
    for job, record in run_all(missing, options.threads):
        file.keep(job.key, record)
        if job.checkpoint is not None:
            job.checkpoint.unlink(missing_ok=True)
    whole: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for row, several in runs.items():
        complete = [run for run in several if not run.missing(kept)]
        if complete:
            name = row.source if row.method == options.method else row.name
            whole[name] = summary(row, [joined(run.known(kept), run.tasks) for run in complete], options.plot)
        rest |= {
            run.whole.key: unfinished(joined(run.known(kept), run.tasks), run.tasks)
            for run in several
            if run not in complete
        }
    found = {"streams": whole, "unfinished": rest, "method": options.method}
    print_figures(found, options.device)


if __name__ == "__main__":
    main()
