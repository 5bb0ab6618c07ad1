"""The metrics of a run for TensorBoard, if it is installed."""

from __future__ import annotations

import importlib
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from trainer.run.monitor.metrics import Points
from trainer.run.progress import RunState

EVENTS = "events.out.tfevents.*"  # prefix of the written files


def summary_writer() -> Any:
    """The class SummaryWriter of torch. Raises ValueError, with what to install, if TensorBoard is missing."""
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ModuleNotFoundError as error:
        raise ValueError("--tensorboard needs the package tensorboard; install it, or use --metrics FILE") from error


class TensorBoardLog(AbstractContextManager["TensorBoardLog"]):
    """Writes event files into a folder. `progress` is the run's own, at zero or as in its checkpoint.

    A resumed run continues in the folder; events of steps that run again are hidden.
    """

    def __init__(self, folder: Path, progress: RunState) -> None:
        self.points = Points(progress, seen=sum(point.step < progress.step for point in progress.history))
        self.writer = summary_writer()(log_dir=str(folder), purge_step=progress.step)
        if math.isfinite(progress.loss):  # a checkpoint is written before its step is reported
            self(progress)

    def __exit__(self, *error: object) -> None:
        self._validations()
        self.writer.close()

    def __call__(self, progress: RunState) -> None:
        """Called after every outer step."""
        self.writer.add_scalar("outer/loss", progress.loss, progress.step)
        self.writer.add_scalar("outer/gradient norm", progress.gradient_norm, progress.step)
        self.writer.add_scalar("outer/rate", progress.outer_rate, progress.step)
        self._validations()

    def _validations(self) -> None:
        for point in self.points.new():
            self.writer.add_scalar("validation/accuracy", point.accuracy, point.step)
