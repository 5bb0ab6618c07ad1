"""The one accuracy that is stated for a memory, wherever a single figure is shown: page, answers, client, card."""

from __future__ import annotations

import re
from typing import Final

from pydantic import BaseModel, ConfigDict

from recall_server.core.bundle.manifest import Manifest, MeasuredAccuracy
from recall_server.core.classifier.expected_accuracy import latest_by_own_schedule, wilson_interval
from recall_server.core.reports.markdown import percent

FEW: Final = 100  # test pictures; of fewer, the sentence says so
SCHEDULES: Final = {"bundle": "the memory's own schedule", "paper": "the schedule of the literature"}
WAYS: Final = re.compile(r"\b(\d+)-way\b")
PICTURES: Final = re.compile(r"\b(\d[\d,]*) pictures\b")


class StatedAccuracy(BaseModel):
    """A measurement of a memory: mean and standard deviation of `runs` fresh classifiers, 0 to 1.

    `low` to `high` is the 95 % interval of the mean for so many test `pictures`; all three are None if their number
    was not recorded. `classes` is the number of classes that were told apart. `sentence` says all of it.
    """

    model_config = ConfigDict(frozen=True)

    mean: float
    spread: float
    runs: int
    network: str
    protocol: str
    classes: int
    pictures: int | None
    low: float | None
    high: float | None
    data: str
    sentence: str


def stated_accuracy(manifest: Manifest) -> StatedAccuracy | None:
    """The latest measurement by the memory's own schedule, or else the latest of all; None without any."""
    row = latest_by_own_schedule(manifest, manifest.accuracy)
    if row is None:
        return None
    ways, pictures = WAYS.search(row.data), _pictures(row)
    low, high = wilson_interval(row.mean * pictures, pictures) if pictures else (None, None)
    classes = int(ways[1]) if ways else len(manifest.labels)
    return StatedAccuracy(
        **row.model_dump(exclude={"confusions"}),
        classes=classes,
        pictures=pictures,
        low=low,
        high=high,
        sentence=_sentence(row, classes, pictures, None if low is None or high is None else (low, high)),
    )


def _pictures(row: MeasuredAccuracy) -> int | None:
    """The number of test pictures, from the counted confusions or from the description of the data."""
    if row.confusions is not None:
        return sum(map(sum, row.confusions)) // row.runs
    said = PICTURES.search(row.data)
    return int(said[1].replace(",", "")) if said else None


def _sentence(row: MeasuredAccuracy, classes: int, pictures: int | None, interval: tuple[float, float] | None) -> str:
    schedule = SCHEDULES.get(row.protocol, f"the schedule {row.protocol}")
    runs = "one fresh classifier" if row.runs == 1 else f"mean of {row.runs} fresh classifiers"
    spread = "" if row.runs == 1 else f" ± {100 * row.spread:.1f}"
    data = row.data if WAYS.search(row.data) else f"{row.data}, {classes}-way"
    data += "" if pictures is None or PICTURES.search(row.data) else f", {pictures} pictures"
    if interval is None:
        trust = "the number of test pictures was not recorded"
    else:
        trust = f"95 % interval {100 * interval[0]:.1f} to {percent(interval[1])}"
        trust += f"; only {pictures} test pictures" if pictures is not None and pictures < FEW else ""
    return f"{percent(row.mean)}{spread} ({runs} by {schedule}) on {data}; {trust}."
