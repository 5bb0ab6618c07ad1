"""The classifiers that answer predictions: finished ones, and the prototypes that stand in for one in training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from recall_server.core.classifier.feature_classifier import ENCODER_SHA256, PICTURE_SIZE, FeatureClassifier
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.prototypes import NETWORK as PROTOTYPES
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import NotFound, NotReady
from recall_server.jobs.rows.task import read_interim
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library.folder import FileStamp
from recall_server.service.bounded_cache import BoundedCache

AnswerSource = Literal["classifier", "prototypes"]
Classifier = FreshClassifier | FeatureClassifier | PrototypeClassifier
Predictor = tuple[Classifier, AnswerSource]
Encoders = Callable[[str, int], QueryEncoder]  # by sha256 and the size of pictures
CACHE_BYTES = 2**28  # of all classifiers that stay loaded


def no_encoder(sha256: str, size: int) -> QueryEncoder:
    """Raise NotReady: no encoder is loaded."""
    raise NotReady(f"no encoder is loaded, and the classifier needs the one with sha256 {sha256[:12]}")


@final
@dataclass(frozen=True)
class _Loaded:
    """A classifier, and the file that it was read from as the file was then."""

    classifier: Classifier
    path: Path
    stamp: FileStamp

    @property
    def size(self) -> int:
        """Bytes, about."""
        if isinstance(self.classifier, PrototypeClassifier):
            # The file of an interim classifier is that of a whole task, which may be a hundred times as large.
            return len(self.classifier.export_onnx())
        return self.stamp.size


@final
class LoadedClassifiers:
    """Loads classifiers by id, and keeps those used last. Safe to use from several threads.

    A finished classifier that is kept is used without a look at the job table. Its file is looked at each time: whoever
    deletes a classifier removes the file before the row, also on another server that shares the state folder.
    """

    def __init__(self, jobs: TrainingJobs, cache_bytes: int = CACHE_BYTES, *, encoders: Encoders = no_encoder) -> None:
        self._jobs, self._encoders = jobs, encoders
        self._finished: BoundedCache[_Loaded] = BoundedCache(cache_bytes)
        self._interim: BoundedCache[_Loaded] = BoundedCache(cache_bytes // 4)

    def finished(self, identifier: str) -> Classifier:
        """The trained classifier. Raises NotFound and NotReady."""
        kept = _as_it_was(self._finished.get(identifier))
        if kept is not None:
            return kept
        path = self._jobs.finished_file(identifier)
        if self._jobs.get(identifier).network != PROTOTYPES:
            return _read(self._finished, identifier, path, self._load_trained)
        read = self._jobs.read
        return _read(self._finished, identifier, path, lambda _: PrototypeClassifier.from_bytes(read(identifier)))

    def current(self, identifier: str) -> Predictor:
        """The trained classifier or, while it is trained from pictures, their prototypes. Raises NotFound, NotReady."""
        kept = _as_it_was(self._finished.get(identifier))
        if kept is not None:
            return kept, _source(kept)
        record = self._jobs.get(identifier)
        if not record.status.is_terminal and record.addressing == "images":
            with contextlib.suppress(NotFound, NotReady):  # the training has just ended
                path = self._jobs.task_file(identifier)
                prototypes = _as_it_was(self._interim.get(identifier))
                return prototypes or _read(self._interim, identifier, path, _interim_classifier), "prototypes"
        classifier = self.finished(identifier)
        return classifier, _source(classifier)

    def kept(self, identifier: str) -> Classifier | None:
        """The finished classifier if it is loaded. It may have been deleted meanwhile; only `current` looks."""
        loaded = self._finished.get(identifier)
        return None if loaded is None else loaded.classifier

    def drop_unused(self, seconds: float) -> None:
        """Drop classifiers that nobody has used for so long; the next request reads them again."""
        self._finished.drop_unused(seconds)
        self._interim.drop_unused(seconds)

    def _load_trained(self, path: Path) -> FreshClassifier | FeatureClassifier:
        """The classifier; if it is the head of an encoder, both together. Raises NotReady without the encoder."""
        classifier = FreshClassifier.load(path)
        if ENCODER_SHA256 not in classifier.extra:
            return classifier
        encoder = self._encoders(classifier.extra[ENCODER_SHA256], int(classifier.extra[PICTURE_SIZE]))
        return FeatureClassifier(classifier, encoder)


def check_predictor(jobs: TrainingJobs, identifier: str) -> None:
    """Raise NotFound or NotReady if nothing can answer for this classifier, without reading a file."""
    record = jobs.get(identifier)
    if record.status.is_terminal or record.addressing != "images":
        jobs.finished_file(identifier)


def _interim_classifier(task: Path) -> PrototypeClassifier:
    return PrototypeClassifier.from_bytes(read_interim(task))


def _source(classifier: Classifier) -> AnswerSource:
    return "prototypes" if isinstance(classifier, PrototypeClassifier) else "classifier"


def _as_it_was(loaded: _Loaded | None) -> Classifier | None:
    """The classifier if its file is still the one that was read."""
    return loaded.classifier if loaded is not None and FileStamp.of(loaded.path) == loaded.stamp else None


def _read(cache: BoundedCache[_Loaded], identifier: str, path: Path, read: Callable[[Path], Classifier]) -> Classifier:
    """Read the classifier and keep it, unless it has no file any more."""
    stamp = FileStamp.of(path)
    classifier = read(path)
    if stamp is not None:
        loaded = _Loaded(classifier, path, stamp)
        cache.put(identifier, loaded, loaded.size)
    return classifier
