"""Metrics of a run in a file: one JSON document per line, for each outer step and each validation (JSON Lines)."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from recall_server.core.io.atomic import write_atomically
from recall_server.errors import StorageFailed
from trainer.run.progress import LAST_STEP, RunState, Validation


class Points:
    """The validations of a run, each of them reported once, in order."""

    def __init__(self, progress: RunState, seen: int = 0) -> None:
        self.progress, self.seen = progress, seen

    def new(self) -> list[Validation]:
        """The validations since the last call; the first call skips the first `seen`."""
        points = self.progress.history[self.seen :]
        self.seen = len(self.progress.history)
        return points


class MetricsFile(AbstractContextManager["MetricsFile"]):
    """Appends the metrics of a run to a file. `progress` is the run's own, at zero or as in its checkpoint.

    The line of an outer step has `step`, `seconds`, `loss`, `gradient_norm` (before clipping) and `outer_rate`. That of
    a validation has `step`, `seconds`, `validation` (mean accuracy of fresh networks) and `validation_values` (each
    accuracy). When a run is resumed, lines after its checkpoint are removed, because these steps run again, and so is a
    line that was not completed. Raises StorageFailed if the file cannot be written.
    """

    def __init__(self, path: Path, progress: RunState) -> None:
        self.path = path
        self.points = Points(progress)
        validated = {point.step for point in progress.history}
        kept = [
            line
            for line in (read_metrics(path) if path.exists() else [])
            if line["step"] <= progress.step and ("validation" not in line or line["step"] in validated)
        ]
        # A checkpoint is written before its step is reported. Metrics may also be asked for only when a run is resumed.
        noted = {(line["step"], "validation" in line) for line in kept}
        kept += [_validation(point) for point in self.points.new() if (point.step, True) not in noted]
        if math.isfinite(progress.loss) and (progress.step, False) not in noted:
            kept.append(_step(progress))
        write_atomically(path, _text(kept))

    def __exit__(self, *error: object) -> None:
        self._write([_validation(point) for point in self.points.new()])

    def __call__(self, progress: RunState) -> None:
        """Called after every outer step."""
        self._write([*map(_validation, self.points.new()), _step(progress)])

    def _write(self, documents: list[dict[str, Any]]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(_text(documents))
        except OSError as error:
            raise StorageFailed(f"{self.path.name} could not be written: {error.strerror or error}") from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The documents of a file, without an incomplete last line. Raises ValueError for any other file."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        documents = [json.loads(line) for line in lines[:-1]]
        if not all(isinstance(each, dict) and isinstance(each.get("step"), int) for each in documents):
            raise ValueError("a line without a step")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} holds no metrics of a run: {error}") from error
    return documents


def _text(documents: list[dict[str, Any]]) -> bytes:
    """The lines in the order of steps; the line of a step comes before that of its validation."""
    ordered = sorted(documents, key=lambda line: (line["step"], "validation" in line))
    return "".join(f"{json.dumps(line, allow_nan=False)}\n" for line in ordered).encode()


def _step(progress: RunState) -> dict[str, Any]:
    last = {name: getattr(progress, name) for name in LAST_STEP}
    return {"step": progress.step, "seconds": round(progress.seconds, 3), **last}


def _validation(point: Validation) -> dict[str, Any]:
    return {
        "step": point.step,
        "seconds": round(point.seconds, 3),
        "validation": point.accuracy,
        "validation_values": list(point.values),
    }
