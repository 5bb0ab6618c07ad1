"""The methods of a handle on one classifier, for both clients."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Generic, Literal, TypeAlias, TypeVar, cast

from recall_client.client.progress import ProgressLine
from recall_client.client.waiting import OnProgress, check_trained, follow, wait
from recall_client.connection.dual import dual, dual_iterator
from recall_client.connection.server import Server
from recall_client.errors import UnexpectedAnswer
from recall_client.local import LocalClassifier, require_runtime
from recall_client.messages.explanation import Explanation
from recall_client.messages.models import ClassifierState, Event, Prediction, Predictions, Quality
from recall_client.messages.request import Request, classifier_path, parameters
from recall_client.pictures import PictureLike, Pictures, Upload, batches

FileFormat: TypeAlias = Literal["safetensors", "onnx"]
ClassifierT = TypeVar("ClassifierT")

_FORMATS: dict[str, FileFormat] = {".safetensors": "safetensors", ".onnx": "onnx"}


class ClassifierMethods(Generic[ClassifierT]):
    """A handle on one classifier. `state` is its state when the server was last asked; the properties read it."""

    def __init__(self, server: Server, state: ClassifierState) -> None:
        self._server = server
        self.state = state

    @property
    def id(self) -> str:
        """The classifier's id on the server."""
        return self.state.id

    @property
    def status(self) -> str:
        """ "queued", "running", "succeeded", "failed" or "cancelled"."""
        return self.state.status

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.state.labels

    @property
    def quality(self) -> Quality | None:
        """The estimated accuracy; None where it could not be estimated, or not yet."""
        return self.state.quality

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats, one sentence each."""
        return self.state.notes

    @property
    def stages(self) -> Mapping[str, float] | None:
        """Seconds by stage ("queued", "training"...); None until the training has ended."""
        return self.state.stages

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self.status}, labels={list(self.labels)})"

    @dual
    async def refresh(self) -> ClassifierT:
        """Ask the server for the state, and return this handle. Raises NotFound for a deleted classifier."""
        return await self._updated(Request("GET", classifier_path(self.id)))

    @dual
    async def wait(
        self, timeout: float | None = 300.0, *, progress: bool = False, on_progress: OnProgress | None = None
    ) -> ClassifierT:
        """Wait until the classifier is trained, and return this handle.

        `progress` shows a progress line on stderr; `on_progress` is called with every state, about once a second. A
        server that restarts meanwhile is waited for. Raises TrainingFailed, TrainingCancelled, or StillTraining after
        `timeout` seconds (None for no limit); the training then continues, and `wait` can be called again.
        """
        watchers: list[OnProgress] = [ProgressLine()] if progress else []
        watchers += [] if on_progress is None else [on_progress]

        def update(state: ClassifierState) -> None:
            self.state = state
            for watcher in watchers:
                watcher(state)

        await wait(self._server, self.state, timeout, update, watched=bool(watchers))
        check_trained(self.state)
        return cast("ClassifierT", self)

    @dual_iterator
    async def events(self, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield the events of the training until it has ended; the past ones come first.

        A lost connection is made again, and continues after the last event. `after` is the number of the last known
        event. With asyncio, a caller that breaks off closes the generator: `contextlib.aclosing(classifier.events())`.
        Raises NotFound for a classifier that is deleted meanwhile.
        """
        async with aclosing(follow(self._server, self.id, after)) as events:
            async for event in events:
                yield event

    @dual
    async def predict(self, pictures: Pictures, *, none_below: float | None = None) -> list[Prediction]:
        """Return a prediction for each picture, in order. Raises NotReady before the classifier is trained.

        A picture that is less familiar than `none_below`, by default the server's threshold, is `none_of_these`.
        """
        predictions: list[Prediction] = []
        waiting: Iterator[tuple[Upload, ...]] = batches(pictures, of="images")
        while (batch := await self._server.connection.offload(partial(next, waiting, None))) is not None:
            parts = tuple(("images", upload) for upload in batch)
            request = Request(
                "POST", classifier_path(self.id, "predict"), parameters(none_below=none_below), parts=parts
            )
            answer = await self._server.parsed(request, Predictions)
            if len(answer.predictions) != len(batch):
                raise UnexpectedAnswer(f"{len(batch)} pictures were answered by {len(answer.predictions)} predictions")
            predictions += answer.predictions
        return predictions

    @dual
    async def explain(self, picture: PictureLike, *, label: str | None = None, top: int | None = None) -> Explanation:
        """Return the recalled items that spoke most for and against `label`, or the most probable class, of a picture.

        `top` is how many of either kind, by default the server's number. Raises NotReady, also where a memory of the
        classifier is not loaded any more, and UnsupportedQuery for a classifier that cannot be explained.
        """
        (upload,) = await self._server.connection.offload(partial(next, batches([picture], of="images")))
        path = classifier_path(self.id, "explain")
        request = Request("POST", path, parameters(label=label, top=top), parts=(("images", upload),))
        return await self._server.parsed(request, Explanation)

    @dual
    async def download(self, path: str | os.PathLike[str], *, file_format: FileFormat | None = None) -> Path:
        """Write the classifier to a file and return its path: ONNX, or safetensors for `FreshClassifier.load`.

        The suffix of `path` chooses the format, unless `file_format` does. The file appears whole or not at all, and
        its sha256 is checked. Raises NotReady before the classifier is trained, ValueError for another suffix, OSError.
        """
        target = Path(path)
        chosen = file_format or _FORMATS.get(target.suffix)
        if chosen is None:
            raise ValueError(f"{target.name!r} ends in neither .safetensors nor .onnx; choose with file_format=")
        return await self._server.save(self._file_request(chosen), target)

    @dual
    async def local(self) -> LocalClassifier:
        """Return the same classifier in this process. Raises NotReady, and ImportError that says what it needs."""
        require_runtime()
        content = BytesIO()
        await self._server.receive(self._file_request("onnx"), content.write)
        load = partial(LocalClassifier, content.getvalue(), name=f"classifier {self.id}")
        return await self._server.connection.offload(load)

    @dual
    async def card(self) -> str:
        """Return the classifier's card in Markdown: what it is, how good it is, and its limits."""
        request = Request("GET", classifier_path(self.id, "card"), headers={"Accept": "text/markdown"})
        return await self._server.text(request, "text/markdown")

    @dual
    async def cancel(self) -> ClassifierT:
        """Stop the training, and return this handle. A trained classifier is not changed."""
        return await self._updated(Request("POST", classifier_path(self.id, "cancel")))

    @dual
    async def delete(self) -> None:
        """Delete the classifier from the server; a running training is cancelled. Raises NotFound if it is gone."""
        await self._server.ask(Request("DELETE", classifier_path(self.id)))

    async def _updated(self, request: Request) -> ClassifierT:
        self.state = await self._server.parsed(request, ClassifierState)
        return cast("ClassifierT", self)

    def _file_request(self, file_format: FileFormat) -> Request:
        headers = {"Accept-Encoding": "identity"}  # random floats do not compress
        return Request("GET", classifier_path(self.id, "download"), (("format", file_format),), headers=headers)
