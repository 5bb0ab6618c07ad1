"""How the bundle of a cell is measured: by the protocol that all cells share, with every network, and by its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.networks import NetworkSpec
from recall_server.core.training.retraining import Retraining
from recall_server.errors import TrainingFailed
from trainer.data.splits import Split
from trainer.evaluation.evaluate import evaluate_labels
from trainer.evaluation.grid.cell import CellRecord, Measured
from trainer.evaluation.protocol import Protocol

COMMON, OWN = "common", "own"


@dataclass(frozen=True)
class Plan:
    """One measurement that is to be made."""

    network: str
    protocol: str
    schedule: Retraining


def plans(bundle: MemoryBundle, record: CellRecord) -> Iterator[Plan]:
    """The measurements of this bundle that the record lacks, the common protocol first."""
    queries, rows, own = len(bundle.labels), bundle.memory.rows, bundle.manifest.retraining
    for network in record.settings.networks:
        spec = NetworkSpec.parse(network)
        schedule = own.model_copy(update={"network": spec})
        yield Plan(network, COMMON, Protocol(COMMON).schedule(schedule, queries=queries, rows=rows))
    yield Plan(str(own.network), OWN, own)


def measure(
    bundle: MemoryBundle, record: CellRecord, test: Split, *, device: torch.device
) -> Iterator[tuple[CellRecord, Measured]]:
    """The record after each further measurement on the test pictures, and that measurement."""
    for plan in plans(bundle, record):
        if record.measurement(plan.network, plan.protocol) is not None:
            continue
        seeds = range(record.settings.runs)
        try:
            values = evaluate_labels(bundle, test, retraining=plan.schedule, seeds=seeds, device=device).values
        except TrainingFailed:
            values = ()
        measured = Measured(network=plan.network, protocol=plan.protocol, values=values)
        record = record.model_copy(update={"measured": (*record.measured, measured)})
        yield record, measured
