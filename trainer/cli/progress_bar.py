"""The progress of a distillation on the terminal: step, loss, validation, speed and time left."""

from __future__ import annotations

import math
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from trainer.run.progress import RunLimits, RunState

SMOOTHING = 0.95
LINE_SECONDS = 30.0


class Display:
    """A progress bar on stderr, or a line every half minute if stderr is not a terminal."""

    def __init__(self, limits: RunLimits, *, started_at: RunState) -> None:
        self.limits = limits
        self.console = Console(stderr=True)
        self.loss: float | None = None
        self.first = (started_at.step, started_at.seconds)
        self.printed = time.monotonic()
        self.seen = len(started_at.history)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID = self.bar.add_task("distilling", total=limits.outer_steps, completed=started_at.step)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, progress: RunState) -> None:
        """Show the progress; called after every outer step."""
        self.loss = progress.loss if self.loss is None else SMOOTHING * self.loss + (1 - SMOOTHING) * progress.loss
        text = self.describe(progress)
        self.bar.update(self.task, completed=progress.step, description=text)
        validated = len(progress.history) > self.seen
        if self.bar.disable and (validated or time.monotonic() - self.printed > LINE_SECONDS):
            self.console.print(f"step {progress.step}: {text}", highlight=False, soft_wrap=True)
            self.printed, self.seen = time.monotonic(), len(progress.history)

    def describe(self, progress: RunState) -> str:
        """Loss, validation accuracy, speed and time left, in one line."""
        steps, seconds = progress.step - self.first[0], progress.seconds - self.first[1]
        speed = steps / max(seconds, 1e-9)
        left = math.inf
        if self.limits.outer_steps is not None:
            left = (self.limits.outer_steps - progress.step) / max(speed, 1e-9)
        if self.limits.minutes is not None:
            left = min(left, 60 * self.limits.minutes - progress.seconds)
        parts = [f"loss {self.loss:.3f}"]
        if progress.history:
            parts.append(f"validation {progress.history[-1].accuracy:.3f} (best {progress.best:.3f})")
            parts.append(f"bundle version {progress.version}")
        parts.append(f"{speed:.2f} steps/s" if speed >= 1 else f"{1 / max(speed, 1e-9):.1f} s/step")
        parts.append(f"{max(0.0, left) / 60:.0f} min left")
        return ", ".join(parts)
