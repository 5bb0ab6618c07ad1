"""What a run writes beside its bundle: metrics, TensorBoard events and previews."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from trainer.run.monitor.metrics import MetricsFile, read_metrics
from trainer.run.monitor.previews import Previews
from trainer.run.monitor.tensorboard_log import EVENTS, TensorBoardLog, summary_writer
from trainer.run.progress import RunState
from trainer.run.publisher import Publisher

Report = Callable[[RunState], None]


@dataclass(frozen=True)
class Monitors:
    """Where metrics, TensorBoard events and previews are written; None for what was not asked for."""

    metrics: Path | None = None
    tensorboard: Path | None = None
    previews: Path | None = None

    @property
    def asked(self) -> list[str]:
        """The options that were given."""
        given = {"--metrics": self.metrics, "--tensorboard": self.tensorboard, "--previews": self.previews}
        return [option for option, path in given.items() if path is not None]

    def checked(self, *, resume: bool, overwrite: bool) -> Self:
        """These monitors. Raises ValueError, before data are read, for files that are unwritable or would be lost."""
        if self.metrics is not None and self.metrics.exists():
            if self.metrics.is_dir():
                raise ValueError(f"--metrics must name a file, but {self.metrics.name} is a folder")
            if resume:
                read_metrics(self.metrics)
            elif not overwrite:
                raise ValueError(
                    f"{self.metrics.name} holds the metrics of another run; name another file, or replace it with "
                    "--overwrite"
                )
        for option, folder in (("--tensorboard", self.tensorboard), ("--previews", self.previews)):
            if folder is not None and folder.exists() and not folder.is_dir():
                raise ValueError(f"{option} must name a folder, but {folder.name} is a file")
        if self.tensorboard is not None:
            summary_writer()
            if not resume and not overwrite and any(self.tensorboard.glob(EVENTS)):
                raise ValueError(
                    f"{self.tensorboard.name} holds the events of another run; name another folder, or hide them with "
                    "--overwrite"
                )
        return self

    @contextmanager
    def reporting(self, display: Report, progress: RunState, publisher: Publisher, *, resume: bool) -> Iterator[Report]:
        """The function to call after every outer step, for the display and all monitors.

        `progress` is the run's own; `publisher` has the current memory, for previews.
        """
        reports = [display]
        with ExitStack() as stack:
            if self.metrics is not None:
                if not resume:
                    self.metrics.unlink(missing_ok=True)  # `check` has let nothing through that would be missed
                reports.append(stack.enter_context(MetricsFile(self.metrics, progress)))
            if self.tensorboard is not None:
                reports.append(stack.enter_context(TensorBoardLog(self.tensorboard, progress)))
            if self.previews is not None:
                reports.append(Previews(self.previews, progress, publisher))

            def report(progress: RunState) -> None:
                for each in reports:
                    each(progress)

            yield report
