"""Recorded measurements: `benchmarks/results.jsonl`, one JSON document per line, which docs/results.md is made from.

    python -m benchmarks.results --record speed --what "one step on 300 images" \\
        --measured "{seconds[by_hand]:.2f} s" --baseline "{seconds[autograd]:.2f} s by autograd" -- step --threads 2

runs `python -m benchmarks.step --threads 2` and records a line with its command, device, date and figures. The two
templates are filled in from the JSON document that the benchmark prints last. A line of the same group and title is
replaced. A run of which the page shows several rows takes `--what`, `--measured` and `--baseline` once for each row.
Run `python docs/generate.py` afterwards.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tomllib
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


GROUPS = {  # in the order of the page
    name: Group(**fields) for name, fields in tomllib.loads(Path(__file__).with_name("groups.toml").read_text()).items()
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
    parser.add_argument("--record", required=True, choices=list(GROUPS), help="the group that the rows belong to")
    parser.add_argument("--what", required=True, action="append", help="the title of a row")
    parser.add_argument("--measured", required=True, action="append", help="a template, such as '{seconds:.1f} s'")
    parser.add_argument("--baseline", action="append", help="a template for the baseline of the same run")
    parser.add_argument("--file", type=Path, default=RESULTS, help="the file of results")
    parser.add_argument("benchmark", nargs="+", help="after --, the name of a benchmark and its options")
    options = parser.parse_args(arguments)
    baselines = options.baseline or [""] * len(options.what)
    if not len(options.what) == len(options.measured) == len(baselines):
        parser.error("every row has one --what and one --measured, and every row or none has a --baseline")
    command = [sys.executable, "-m", f"benchmarks.{options.benchmark[0]}", *options.benchmark[1:]]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    sys.stdout.write(ran.stdout)
    figures, rows = last_document(ran.stdout), read(options.file)
    for what, measured, baseline in zip(options.what, options.measured, baselines, strict=True):
        told = {"group": options.record, "what": what, "measured": measured, "baseline": baseline}
        rows = with_row(rows, measurement(options.benchmark, figures, **told))
    write(rows, options.file)


if __name__ == "__main__":
    main()
