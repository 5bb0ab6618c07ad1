"""Recorded measurements: `benchmarks/results.jsonl`, one JSON document per line, which docs/results.md is made from.

    python -m benchmarks.results --record speed --what "one step on 300 images" \\
        --measured "{seconds[by_hand]:.2f} s" --baseline "{seconds[autograd]:.2f} s by autograd" -- step --threads 2

runs `python -m benchmarks.step --threads 2` and records a line with its command, device, date and figures. The two
templates are filled in from the JSON document that the benchmark prints last. A line of the same group and title is
replaced. Run `python docs/generate.py` afterwards.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from recall_server.core.io.atomic import write_atomically
from recall_server.core.training.device import device_name

RESULTS = Path(__file__).with_name("results.jsonl")
Text = Annotated[str, Field(min_length=1)]


class Group(BaseModel):
    """A table of docs/results.md. All its rows are accuracies in one space, or none of them is an accuracy."""

    model_config = ConfigDict(frozen=True)

    title: str
    space: Literal["pixels", "features", "none"]
    sentence: str


class Measurement(BaseModel):
    """One row: what was measured, the baseline of the same run, and what it takes to repeat it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: Text
    what: Text
    measured: Text
    baseline: str = ""
    command: Text
    device: Text
    date: date
    figures: dict[str, Any] | None = None


GROUPS = {
    "features": Group(
        title="Memories of features",
        space="features",
        sentence="EfficientNet-Lite0 sees CIFAR's pictures enlarged to 224 pixels; the encoder is not counted.",
    ),
    "bundles": Group(
        title="Committed bundles",
        space="pixels",
        sentence="Accuracy of fresh ConvNets that were trained on what a committed bundle recalls.",
    ),
    "instant": Group(
        title="Instant memories",
        space="pixels",
        sentence="Memories that take no gradient step, at three budgets, beside real images of the same size.",
    ),
    "grid": Group(
        title="Methods under one protocol",
        space="pixels",
        sentence="Cells of `recall-trainer grid`, and single methods by their own protocols, beside real pictures; "
        "[Methods](methods.md) explains both.",
    ),
    "distilling": Group(
        title="Distilling over time",
        space="pixels",
        sentence="What minutes of distilling add, and how much training a classifier needs.",
    ),
    "pictures-warm": Group(
        title="Classes given by pictures, networks that begin with the memory's encoder",
        space="pixels",
        sentence="Few-shot tasks. The encoder was trained with the memory, on the training pictures of the same data "
        "set; no other pictures were used.",
    ),
    "pictures-random": Group(
        title="Classes given by pictures, networks that begin at random",
        space="pixels",
        sentence="The same tasks by the paper's method, in which classifiers start from random weights.",
    ),
    "combined": Group(
        title="Classes of several memories",
        space="pixels",
        sentence="Classifiers of classes that no single memory was distilled for together.",
    ),
    "streams": Group(
        title="Streams of tasks",
        space="pixels",
        sentence="Continual learning: retained accuracy after the last task of a stream that was seen once.",
    ),
    "federated": Group(
        title="Federated learning",
        space="features",
        sentence="Clients that share an encoder divide the training pictures; bytes are what is sent in all.",
    ),
    "speed": Group(
        title="Speed and memory of training",
        space="none",
        sentence="Inner steps, unrolls and whole trainings beside other implementations of the same computation.",
    ),
    "serving": Group(
        title="The server",
        space="none",
        sentence="Requests, recalls and encoders under load.",
    ),
    "novelty": Group(
        title="Novelty scores",
        space="none",
        sentence="How well the out-of-set score separates pictures that the memory knows from others.",
    ),
}


def read(path: Path = RESULTS) -> list[Measurement]:
    """All recorded measurements in the order of the file; raises ValueError for a group that does not exist."""
    rows = [Measurement.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if unknown := sorted({row.group for row in rows} - set(GROUPS)):
        raise ValueError(f"{path.name}: unknown groups {', '.join(unknown)}; known groups: {', '.join(GROUPS)}")
    return rows


def write(rows: Iterable[Measurement], path: Path = RESULTS) -> None:
    """Replace the file."""
    lines = [row.model_dump_json(exclude_none=True) + "\n" for row in rows]
    write_atomically(path, "".join(lines).encode())


def with_row(rows: Sequence[Measurement], new: Measurement) -> list[Measurement]:
    """The rows with a new one: in the place of the row of the same group and title, else at the end."""
    titles = [(row.group, row.what) for row in rows]
    if (title := (new.group, new.what)) in titles:
        at = titles.index(title)
        return [*rows[:at], new, *rows[at + 1 :]]
    return [*rows, new]


def last_document(output: str) -> dict[str, Any]:
    """The JSON object in the last line of a benchmark's output; raises ValueError where there is none."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    try:
        document = json.loads(last)
    except ValueError as error:
        raise ValueError(f"the last line of a benchmark is a JSON object, not {last[:80]!r}") from error
    if not isinstance(document, dict):
        raise ValueError(f"the last line of a benchmark is a JSON object, not {last[:80]!r}")
    return document


def measurement(
    arguments: Sequence[str], figures: Mapping[str, Any], *, group: str, what: str, measured: str, baseline: str = ""
) -> Measurement:
    """The row of a benchmark that ended; raises KeyError where a template names a figure that it did not print."""
    return Measurement(
        group=group,
        what=what,
        measured=measured.format(**figures),
        baseline=baseline.format(**figures),
        command=f"python -m benchmarks.{shlex.join(arguments)}",
        device=str(figures.get("device") or device_name(torch.device("cpu"))),
        date=datetime.now(UTC).date(),
        figures=dict(figures),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", required=True, choices=list(GROUPS), help="the group that the row belongs to")
    parser.add_argument("--what", required=True, help="the title of the row")
    parser.add_argument("--measured", required=True, help="a template, such as '{seconds:.1f} s'")
    parser.add_argument("--baseline", default="", help="a template for the baseline of the same run")
    parser.add_argument("--file", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("benchmark", nargs="+", help="after --, the name of a benchmark and its options")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", f"benchmarks.{options.benchmark[0]}", *options.benchmark[1:]]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    sys.stdout.write(ran.stdout)
    row = measurement(
        options.benchmark,
        last_document(ran.stdout),
        group=options.record,
        what=options.what,
        measured=options.measured,
        baseline=options.baseline,
    )
    write(with_row(read(options.file), row), options.file)


if __name__ == "__main__":
    main()
