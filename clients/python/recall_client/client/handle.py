"""What a handle on a classifier knows without asking, whichever client it came from."""

from __future__ import annotations

from collections.abc import Mapping

from recall_client.client import training
from recall_client.client.progress import ProgressLine
from recall_client.client.training import OnProgress
from recall_client.connection.exchange import Exchange
from recall_client.connection.server import Dialogue
from recall_client.messages.models import ClassifierState, Quality


class ClassifierHandle:
    """`state` is what the server said last; the properties read it."""

    def __init__(self, dialogue: Dialogue, state: ClassifierState) -> None:
        self._dialogue = dialogue
        self.state = state

    @property
    def id(self) -> str:
        return self.state.id

    @property
    def status(self) -> str:
        """ "queued", "running", "succeeded", "failed" or "cancelled", when the server was last asked."""
        return self.state.status

    @property
    def labels(self) -> tuple[str, ...]:
        return self.state.labels

    @property
    def quality(self) -> Quality | None:
        """An estimate of how often it is right; None where nothing could be estimated, or not yet."""
        return self.state.quality

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that whoever relies on it should know."""
        return self.state.notes

    @property
    def stages(self) -> Mapping[str, float] | None:
        """Seconds by stage ("queued", "training"...), once it has ended."""
        return self.state.stages

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self.status}, labels={list(self.labels)})"

    def _taking(self, exchange: Exchange[ClassifierState]) -> Exchange[None]:
        self.state = yield from exchange

    def _waiting(self, timeout: float | None, progress: bool, on_progress: OnProgress | None) -> Exchange[None]:
        """Until it is trained. Raises TrainingFailed, TrainingCancelled and StillTraining."""
        watchers: list[OnProgress] = [ProgressLine()] if progress else []
        watchers += [] if on_progress is None else [on_progress]

        def tell(state: ClassifierState) -> None:
            self.state = state
            for watcher in watchers:
                watcher(state)

        yield from training.wait(self._dialogue, self.state, timeout, tell, watched=bool(watchers))
        training.check_trained(self.state)
