"""Retained accuracy on streams of tasks: compress-then-recall against baselines at exactly the same memory, one run.

    python -m benchmarks.stream [--stream rotations ...] [--seeds 5] [--method paper|window] [--plot FOLDER] [--quick]

Every seed draws its own stream. The learner, online SGD, experience replay and one random real image of each class go
through it side by side in one pass, by minibatches of ten; joint training is the upper bound. The test set is read
when a task has ended. `seconds` says where the time goes; `tasks_per_minute` counts the learner's own time, from the
first minibatch to the finished memory; `resident_mebibytes` is what the process held after every tenth of the tasks.
--results keeps the figures of every seed in a file as they come, and seeds that it has are not run again. --validate
judges on training pictures that no task learns, to choose settings by. --plot writes the mean accuracy over the tasks
seen as a stream grows, one picture for each (it needs matplotlib). --quick: three tasks of rotated digits of few
samples. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recall_server.allocator import keep_freed_memory
from recall_server.atomic import write_atomically
from trainer.publish import device_name
from trainer.streams import scores as results
from trainer.streams.experiment import Experiment, prepare
from trainer.streams.named import STREAMS
from trainer.streams.plot import plot
from trainer.streams.recipe import compose
from trainer.streams.scores import Scores

QUICK = "digits-rotations"
QUICK_SETTINGS = ["bases=8", "steps=20", "window=10", "replays=2"]


def measure(source: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One seed of one stream: scores, seconds and memory."""
    overrides = [*(QUICK_SETTINGS if options.quick else []), *options.overrides]
    experiment = Experiment(
        source,
        compose(options.method, source, overrides),
        seed,
        tasks=options.tasks,
        samples=options.samples,
        validate=options.validate,
        baselines=not options.no_baselines,
    )
    resident: list[int] = []

    def report(sentence: str) -> None:
        resident.append(_resident_mebibytes())
        print(f"  {sentence}", flush=True)

    started = time.perf_counter()
    run = prepare(experiment, report=report)
    scores = run.run()
    seconds = time.perf_counter() - started
    joint = [] if options.no_joint else experiment.joint(run.stream)
    return {
        "scores": scores.to_json(),
        "joint": statistics.fmean(joint) if joint else None,
        "seconds": {name: round(value, 1) for name, value in run.seconds.spent.items()},
        "seconds_of_all": round(seconds, 1),
        "tasks_per_minute": round(60 * run.stream.tasks / run.seconds.spent["recall"], 2),
        "buffer_numbers": run.learners[0].numbers(),
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "resident_mebibytes": resident[:: max(1, len(resident) // 10)],  # after every tenth of the tasks
    }


def _resident_mebibytes() -> int:
    """What this process holds now; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() // 2**20 if statm.exists() else 0


def summary(source: str, runs: Sequence[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Print the table of a stream, draw its picture, and give its figures by name."""
    scores = [Scores.from_json(run["scores"]) for run in runs]
    joint = [run["joint"] for run in runs if run["joint"] is not None]
    print(f"{source}, {options.method}, {len(runs)} seed{'s' if len(runs) > 1 else ''}")
    print(results.table(scores, joint))
    if options.plot:
        plot(scores, options.plot / f"{source}-{options.method}.png", title=source, joint=joint)
    return {
        "learners": results.figures(scores, joint),
        "seeds": len(runs),
        "seconds": runs[-1]["seconds"],
        "seconds_of_all": round(statistics.fmean(run["seconds_of_all"] for run in runs), 1),
        "tasks_per_minute": round(statistics.fmean(run["tasks_per_minute"] for run in runs), 2),
        "buffer_numbers": runs[-1]["buffer_numbers"],
        "peak_mebibytes": runs[-1]["peak_mebibytes"],
        "resident_mebibytes": runs[-1].get("resident_mebibytes", []),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", nargs="+", default=["rotations", "permutations", "many"], choices=list(STREAMS))
    parser.add_argument("--method", default="window")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, help="shorten the streams")
    parser.add_argument("--samples", type=int, help="samples of each task")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--no-baselines", action="store_true", help="the learner alone")
    parser.add_argument("--no-joint", action="store_true", help="leave the upper bound out")
    parser.add_argument("--plot", type=Path, help="a folder")
    parser.add_argument("--results", type=Path, help="a JSON file that figures are kept in and taken from")
    parser.add_argument("--threads", type=int, default=1, help="the operations are small: more threads rarely help")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    sources = options.stream
    if options.quick:
        sources, options.seeds, options.tasks, options.samples = [QUICK], 1, 3, 300
    kept: dict[str, Any] = {}
    if options.results and options.results.exists():
        kept = json.loads(options.results.read_text())
    found: dict[str, Any] = {}
    for source in sources:
        for seed in range(options.seeds):
            key = f"{source} {options.method} {seed}"
            if key not in kept:
                print(key, flush=True)
                kept[key] = measure(source, seed, options)
            if options.results:
                write_atomically(options.results, json.dumps(kept, sort_keys=True).encode())
        runs = [kept[f"{source} {options.method} {seed}"] for seed in range(options.seeds)]
        found[source] = summary(source, runs, options)
    print(json.dumps({"streams": found, "method": options.method, "device": device_name(torch.device("cpu"))}))


if __name__ == "__main__":
    main()
