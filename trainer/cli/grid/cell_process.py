"""One cell of a grid, from its record to its last measurement: `python -m trainer.cli.grid.cell_process FOLDER`.

The record lists what is finished. A stopped cell continues: its distillation from the checkpoint, and its measurements
with the first missing one.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import RecallError
from trainer.cli import commands
from trainer.data.datasets import ImageDataset
from trainer.data.second_moments import SecondMoments
from trainer.evaluation.grid.cell import BUNDLE, LOG, CellRecord, MadeBundle
from trainer.evaluation.grid.measure import measure
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.specs.budget import Size
from trainer.run.distill import Interrupted
from trainer.run.parallel.child import end_with_input
from trainer.run.setup.request import DistillRequest

VALIDATIONS = 8  # validations of a distillation, spread over its minutes
NEVER = 10**9  # no validation by outer steps: they follow the clock
STOPPED = 130  # the usual exit status after Ctrl-C

Expected = RecallError | ValueError | ValidationError | FloatingPointError  # what sentences of their own explain


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the cell, with its record")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tied", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    if options.tied:
        end_with_input()
    torch.set_num_threads(options.threads)
    record = CellRecord.load(options.folder)
    try:
        run_cell(record, options.folder, commands.pick_device(options.device))
    except (Interrupted, KeyboardInterrupt):
        return STOPPED
    except Exception as error:  # a failing cell does not stop the others; its record has the reason
        traceback.print_exc()
        known = isinstance(error, Expected)
        reason = str(error) if known else f"{type(error).__name__}: {error}; see {options.folder.name}/{LOG}"
        record = CellRecord.load(options.folder)
        record.model_copy(update={"status": "failed", "reason": " ".join(reason.split())}).save(options.folder)
    return 0


def run_cell(record: CellRecord, folder: Path, device: torch.device) -> CellRecord:
    """Distill, measure what is missing in the record, and save the record after each part. Raises their errors."""
    method, cell = compose(record.cell.method), record.cell
    data, moments = commands.read_data(cell.dataset, method, image_size=record.settings.image_size, seed=cell.seed)
    if record.made is None:
        record = record.model_copy(update={"made": _distill(record, folder, method, data, moments, device)})
        record.save(folder)
    bundle = MemoryBundle.load(folder / BUNDLE)
    for better, measured in measure(bundle, record, data.test, device=device):
        record = better
        record.save(folder)
        commands.log_line(f"{measured.protocol} protocol, {measured.network}: {measured.values}")
    record = record.model_copy(update={"status": "done"})
    record.save(folder)
    return record


def _distill(  # noqa: PLR0917
    record: CellRecord,
    folder: Path,
    method: Method,
    data: ImageDataset,
    moments: SecondMoments | None,
    device: torch.device,
) -> MadeBundle:
    settings, cell, output = record.settings, record.cell, (folder / BUNDLE).resolve()
    clock = clock_of(device)
    size = Size(method.images_with_targets(data, cell.images_per_class), settings.bases)
    choices = commands.choose_budgets(data, method, None, size)
    limits = commands.limits_of(method, outer_steps=None, minutes=settings.minutes, validate_every=NEVER)
    request = DistillRequest(
        dataset=data,
        method=method,
        budget=choices[0],
        output=output,
        seed=cell.seed,
        device=device,
        limits=replace(limits, validate_seconds=60 * settings.minutes / VALIDATIONS, clock=clock),
        resume=output.with_suffix(".checkpoint").exists(),
        overwrite=True,
    )
    started = clock()
    bundle = commands.make(request, choices, moments)
    return MadeBundle.of(bundle, clock() - started)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds of one processor core, which other work on the machine does not change; on a GPU, wall-clock seconds."""
    if device.type == "cuda":
        return time.monotonic
    return lambda: time.process_time() / torch.get_num_threads()


if __name__ == "__main__":
    raise SystemExit(main())
