"""The classifiers that answer predictions: finished ones, and the prototypes that stand in for one in training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, final

from recall_server.core.classifier.feature_classifier import ENCODER_SHA256, PICTURE_SIZE, FeatureClassifier
from recall_server.core.classifier.fresh_classifier import FreshClassifier
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
class Predictors:
    """Loads classifiers by id, and keeps those used last. Safe to use from several threads."""

    def __init__(self, jobs: TrainingJobs, cache_bytes: int = CACHE_BYTES, *, encoders: Encoders = no_encoder) -> None:
        self._jobs, self._encoders = jobs, encoders
        self._loaded: BoundedCache[Classifier] = BoundedCache(cache_bytes)

    def finished(self, identifier: str) -> Classifier:
        """The trained classifier. Raises NotFound and NotReady."""
        path = self._jobs.finished_file(identifier)
        if self._jobs.get(identifier).addressing != "prototypes":
            return self._load(identifier, path, self._load_trained)
        return self._load(identifier, path, lambda _: PrototypeClassifier.from_bytes(self._jobs.read(identifier)))

    def current(self, identifier: str) -> Predictor:
        """The trained classifier or, while it is trained from pictures, their prototypes. Raises NotFound, NotReady."""
        record = self._jobs.get(identifier)
        if not record.status.is_terminal and record.addressing == "images":
            with contextlib.suppress(NotFound, NotReady):  # the training has just ended
                return self._load(identifier, self._jobs.task_file(identifier), _interim_classifier), "prototypes"
        classifier = self.finished(identifier)
        return classifier, "prototypes" if isinstance(classifier, PrototypeClassifier) else "classifier"

    def _load_trained(self, path: Path) -> FreshClassifier | FeatureClassifier:
        """The classifier; if it is the head of an encoder, both together. Raises NotReady without the encoder."""
        classifier = FreshClassifier.load(path)
        if ENCODER_SHA256 not in classifier.extra:
            return classifier
        encoder = self._encoders(classifier.extra[ENCODER_SHA256], int(classifier.extra[PICTURE_SIZE]))
        return FeatureClassifier(classifier, encoder)

    def _load(self, identifier: str, path: Path, read: Callable[[Path], Classifier]) -> Classifier:
        """The classifier as it was loaded from this very file, or else as `read` loads it now."""
        stamp = FileStamp.of(path)
        classifier = self._loaded.get((identifier, stamp))
        if classifier is None:
            classifier = read(path)
            if stamp is not None:
                self._loaded.put((identifier, stamp), classifier, _size(classifier, stamp))
        return classifier


def check_predictor(jobs: TrainingJobs, identifier: str) -> None:
    """Raise NotFound or NotReady if nothing can answer for this classifier, without reading a file."""
    record = jobs.get(identifier)
    if record.status.is_terminal or record.addressing != "images":
        jobs.finished_file(identifier)


def _interim_classifier(task: Path) -> PrototypeClassifier:
    return PrototypeClassifier.from_bytes(read_interim(task))


def _size(classifier: Classifier, stamp: FileStamp) -> int:
    # The file of an interim classifier is that of a whole task, which may be a hundred times as large.
    return len(classifier.export_onnx()) if isinstance(classifier, PrototypeClassifier) else stamp.size
