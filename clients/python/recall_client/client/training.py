"""What can be done with one classifier on the server, as exchanges."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import httpx2

from recall_client.connection.exchange import Exchange, Pause, work
from recall_client.connection.retries import Endurance
from recall_client.connection.server import Dialogue
from recall_client.errors import (
    NoAnswer,
    RecallError,
    StillTraining,
    TrainingCancelled,
    UnexpectedAnswer,
    training_failure,
)
from recall_client.local.classifier import LocalClassifier, require_runtime
from recall_client.messages import requests
from recall_client.messages.answers import parse_json
from recall_client.messages.models import ClassifierState, Event, Prediction, Predictions
from recall_client.pictures.uploads import Pictures, Upload, batches

FileFormat: TypeAlias = Literal["safetensors", "onnx"]
OnProgress: TypeAlias = "Callable[[ClassifierState], object]"

_FORMATS: dict[str, FileFormat] = {".safetensors": "safetensors", ".onnx": "onnx"}
_HOLD = 20.0  # seconds that the server is asked to hold an answer back: below the time-outs of what may stand between
_HOLD_WATCHED = 1.0  # the same while somebody watches the progress
_PAUSE = 0.25  # seconds between two questions to a server that does not hold its answers back
_SILENCE = 20.0  # seconds that a stream of events may add to the time-out: the server gives a sign of life every 15
_ENDED = ("succeeded", "failed", "cancelled")


def refresh(dialogue: Dialogue, identifier: str) -> Exchange[ClassifierState]:
    """The classifier as it is now."""
    return (yield from dialogue.parsed(requests.classifier(identifier), ClassifierState))


def wait(
    dialogue: Dialogue, state: ClassifierState, timeout: float | None, tell: OnProgress, *, watched: bool
) -> Exchange[None]:
    """Until the training has ended; `tell` is called with every new state, more often where somebody watches.

    A server that is gone for a while is waited for. Raises StillTraining after `timeout` seconds; None is for ever.
    """
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    hold, endurance, once = _HOLD_WATCHED if watched else _HOLD, Endurance(dialogue.retries), dialogue.without_retries()
    while not state.is_terminal:
        asked_at = time.monotonic()
        patience = max(0.0, min(hold, deadline - asked_at))
        failure: RecallError | None = None
        try:
            state = yield from once.parsed(requests.classifier(state.id, patience=patience), ClassifierState)
        except RecallError as error:
            failure, next_at = error, time.monotonic() + endurance.failed(error)
        else:
            endurance.answered()
            tell(state)
            next_at = asked_at + min(patience, _PAUSE)
        if not state.is_terminal:
            if time.monotonic() >= deadline:
                said = f"classifier {state.id} is still {state.status} after {timeout:g} s of waiting"
                raise StillTraining(said if failure is None else f"{said}, as far as is known: {failure}") from failure
            yield Pause(max(0.0, min(next_at, deadline) - time.monotonic()))


def check_trained(state: ClassifierState) -> None:
    """Raises TrainingFailed or TrainingCancelled for a training that ended without a classifier."""
    if state.status == "failed":
        kind, reason = (state.error.type, state.error.detail) if state.error else ("", "the server gave no reason")
        raise training_failure(kind, f"classifier {state.id} failed: {reason}")
    if state.status != "succeeded":
        raise TrainingCancelled(f"classifier {state.id} was {state.status}")


class Listener:
    """The events of one training in order, each once, over however many connections that takes."""

    def __init__(self, dialogue: Dialogue, identifier: str, after: int) -> None:
        self._dialogue, self._identifier, self._after = dialogue.without_retries(), identifier, after
        self._endurance = Endurance(dialogue.retries)
        self._request: requests.Request | None = None  # the one whose answer is being read
        self._ended = False

    def next(self) -> Exchange[Event | None]:
        """The next event, however long it takes; None behind the one that ended the training."""
        while not self._ended:
            try:
                event = yield from self._heard()
            except RecallError as failure:
                self._request = None
                yield Pause(self._endurance.failed(failure))
                continue
            if event is not None and event.number > self._after:
                self._after, self._ended = event.number, event.kind == "status" and event.status in _ENDED
                return event
        return None

    def _heard(self) -> Exchange[Event | None]:
        if self._request is None:
            yield from self._connect()
        if self._request is None:
            return None
        item = yield from self._dialogue.following(self._request)
        if not isinstance(item, httpx2.ServerSentEvent):  # the server, or something in between, has closed the stream
            raise NoAnswer(f"{self._dialogue.asked(self._request)} broke off before the training ended")
        self._endurance.answered()
        return parse_json(item.data, Event, of=f"an event of classifier {self._identifier}") if item.data else None

    def _connect(self) -> Exchange[None]:
        request = requests.events(self._identifier, after=self._after, patience=_SILENCE)
        response = yield from self._dialogue.open(request, as_events=True)
        kind = response.headers.get("content-type", "").partition(";")[0]
        if response.status_code == 204:  # it has ended, and there is nothing that we do not know
            self._ended = True
        elif kind != "text/event-stream":
            raise UnexpectedAnswer(f"{self._dialogue.asked(request)} was answered with {kind or 'nothing'}, not events")
        else:
            self._request = request
            self._endurance.answered()


def predict(dialogue: Dialogue, identifier: str, pictures: Pictures) -> Exchange[list[Prediction]]:
    """What it says of each picture, in the order given; many are sent a batch at a time."""
    predictions: list[Prediction] = []
    waiting: Iterator[tuple[Upload, ...]] = batches(pictures, of="images")
    while (batch := (yield from work(lambda: next(waiting, None)))) is not None:
        answer = yield from dialogue.parsed(requests.predict(identifier, batch), Predictions)
        if len(answer.predictions) != len(batch):
            raise UnexpectedAnswer(f"{len(batch)} pictures were answered with {len(answer.predictions)} predictions")
        predictions += answer.predictions
    return predictions


def download(
    dialogue: Dialogue, identifier: str, path: str | os.PathLike[str], file_format: FileFormat | None
) -> Exchange[Path]:
    """Write the classifier to `path`. Raises ValueError for an ending that names no format."""
    target = Path(path)
    chosen = file_format or _FORMATS.get(target.suffix)
    if chosen is None:
        raise ValueError(f"{target.name!r} ends in neither .safetensors nor .onnx: name it so, or say file_format=")
    return (yield from dialogue.save(requests.download(identifier, file_format=chosen), target))


def local(dialogue: Dialogue, identifier: str) -> Exchange[LocalClassifier]:
    """The classifier in this process."""
    require_runtime()
    content = BytesIO()
    yield from dialogue.receive(requests.download(identifier, file_format="onnx"), content.write)
    return (yield from work(lambda: LocalClassifier(content.getvalue(), name=f"classifier {identifier}")))


def card(dialogue: Dialogue, identifier: str) -> Exchange[str]:
    """What it is and is not, in Markdown."""
    return (yield from dialogue.read(requests.classifier_card(identifier), "text/markdown"))


def cancel(dialogue: Dialogue, identifier: str) -> Exchange[ClassifierState]:
    """Stop the training."""
    return (yield from dialogue.parsed(requests.cancel(identifier), ClassifierState))


def delete(dialogue: Dialogue, identifier: str) -> Exchange[None]:
    """Make the server forget it."""
    yield from dialogue.ask(requests.delete(identifier))
