"""Previews of a memory while it is distilled: a contact sheet at the start and after every validation."""

from __future__ import annotations

from pathlib import Path

from recall_server.core.io.atomic import write_atomically
from recall_server.core.reports.contact_sheet import contact_sheet
from trainer.output.plots.sheets import picture_rows
from trainer.run.progress import RunState
from trainer.run.publisher import Publisher

DIGITS = 6  # digits of a step in a file name, so that names sort like steps


class Previews:
    """Writes `step-000250.png` and so on into a folder: the bases, and recalled images.

    `publisher` has the current memory and its manifest.
    """

    def __init__(self, folder: Path, progress: RunState, publisher: Publisher) -> None:
        self.folder, self.publisher = folder, publisher
        self.seen = len(progress.history)
        if progress.step == 0:
            self._draw(progress)

    def __call__(self, progress: RunState) -> None:
        """Called after every outer step; draws after those that ended in a validation."""
        if len(progress.history) > self.seen and progress.history[-1].step == progress.step:
            self._draw(progress)
        self.seen = len(progress.history)

    def _draw(self, progress: RunState) -> None:
        name = f"step-{progress.step:0{DIGITS}}.png"
        bundle = self.publisher.draft(self.publisher.components.tensors(), progress).bundle
        write_atomically(self.folder / name, contact_sheet(picture_rows(bundle)))
