"""Measures the bundle of a cell: by the common protocol with every network, and by its own protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from recall_server.errors import TrainingFailed
from trainer.data.splits import Split
from trainer.evaluation.evaluate import Runs, evaluate_labels
from trainer.evaluation.grid.cell import CellAccuracies, CellRecord
from trainer.evaluation.protocol import Protocol

COMMON, OWN = "common", "own"


@dataclass(frozen=True)
class Plan:
    """A measurement to be made."""

    network: str
    protocol: str
    schedule: Retraining


def plans(bundle: MemoryBundle, record: CellRecord) -> Iterator[Plan]:
    """The measurements of this bundle that are missing in the record, the common protocol first."""
    queries, rows = len(bundle.labels), bundle.memory.rows
    own = bundle.manifest.retraining
    own = own.model_copy(update={"rows_per_class": min(rows, own.rows_per_class)})  # equal trainings, described equally
    for network in record.settings.networks:
        spec = NetworkSpec.parse(network)
        schedule = own.model_copy(update={"network": spec})
        yield Plan(network, COMMON, Protocol(COMMON).schedule(schedule, queries=queries, rows=rows))
    yield Plan(str(own.network), OWN, own)


def measure(
    bundle: MemoryBundle, record: CellRecord, test: Split, *, device: torch.device
) -> Iterator[tuple[CellRecord, CellAccuracies]]:
    """Yield the record after each further measurement on the test pictures, with that measurement.

    If both protocols are the same training, it is measured once.
    """
    known: list[tuple[Retraining, tuple[float, ...]]] = []
    for plan in plans(bundle, record):
        before = record.measurement(plan.network, plan.protocol)
        if before is not None:
            known.append((plan.schedule, before.values))
            continue
        values = next((found for schedule, found in known if schedule == plan.schedule), None)
        if values is None:
            values = _values(bundle, test, plan.schedule, record.settings.runs, device)
        known.append((plan.schedule, values))
        measured = CellAccuracies(network=plan.network, protocol=plan.protocol, values=values)
        record = record.model_copy(update={"measured": (*record.measured, measured)})
        yield record, measured


def _values(
    bundle: MemoryBundle, test: Split, schedule: Retraining, runs: int, device: torch.device
) -> tuple[float, ...]:
    """The accuracies of fresh networks; none if one diverged."""
    try:
        return evaluate_labels(bundle, test, Runs(schedule, range(runs), device)).values
    except TrainingFailed:
        return ()
