"""Answers several requests for predictions together: one pass of a network for all pictures of one classifier.

A picture's probabilities do not depend on the other pictures of the batch, except for rounding: a matrix product of
another size may add its terms in another order.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from recall_server.core.classifier.feature_classifier import FeatureClassifier
from recall_server.errors import Abandoned, InvalidRequest, Overloaded
from recall_server.recall import DIRECT, Picture, PictureLimits, Upload
from recall_server.recall.uploads import check_work, decode_checked, from_bytes
from recall_server.service.loaded_classifiers import Classifier, LoadedClassifiers, Predictor
from recall_server.service.predictions import Predictions, check_answer_size, joined

# Pictures of several requests in one batch. While it is computed, the event loop serves the callers of another; with
# larger batches, both wait for each other.
TOGETHER = 16
QUICK_WORK = 500_000  # pixels that are decoded together with the prediction, in a few milliseconds


@final
@dataclass(frozen=True, eq=False)
class PredictionRequest:
    """Pictures to be classified by the classifier of an id; each prediction lists the `top` most probable classes.

    `pixels` [N, C, H, W] are the decoded pictures, for the classifier of `predictor`.
    """

    identifier: str
    pictures: Sequence[Picture]
    top: int | None = None
    upload: Upload = DIRECT
    pixels: NDArray[np.uint8] | None = None
    predictor: Predictor | None = None

    def parts(self) -> Iterator[PredictionRequest]:
        """Yield requests of at most TOGETHER decoded pictures each."""
        assert self.pixels is not None
        for start in range(0, len(self.pixels), TOGETHER):
            part = slice(start, start + TOGETHER)
            yield replace(self, pictures=self.pictures[part], pixels=self.pixels[part])


class MustBeDecodedFirst(Exception):
    """The pictures take so long to decode that other requests should not wait for them. See `BatchPredictor.decode`."""


Outcome = Predictions | Exception


def raised(outcome: Outcome) -> Predictions:
    """The predictions, if it is no error."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@final
@dataclass(frozen=True, eq=False)
class _Ready:
    """A request whose classifier is loaded and whose pictures are decoded."""

    position: int
    predictor: Predictor
    pixels: NDArray[np.uint8]
    top: int | None

    @property
    def classifier(self) -> Classifier:
        return self.predictor[0]


@final
class BatchPredictor:
    """Predicts with the classifiers of `loaded`. Safe to use from several threads."""

    def __init__(self, loaded: LoadedClassifiers, limits: PictureLimits) -> None:
        self._loaded, self._limits = loaded, limits

    def key(self, identifier: str) -> Hashable:
        """Requests with equal keys are computed faster together than apart: one classifier, or one encoder."""
        kept = self._loaded.kept(identifier)
        return kept.encoder if isinstance(kept, FeatureClassifier) else identifier

    def knows(self, identifier: str) -> bool:
        """Whether a finished classifier of this id is loaded; it may have been deleted meanwhile. Reads no file."""
        return self._loaded.kept(identifier) is not None

    def predict(self, asked: Sequence[PredictionRequest]) -> list[Outcome]:
        """The predictions for each request, or the error of this request, in order.

        Errors are those of `decode`, and MustBeDecodedFirst for a request with much to decode.
        """
        outcomes: dict[int, Outcome] = {}
        ready: dict[Hashable, list[_Ready]] = defaultdict(list)
        current = functools.cache(self._loaded.current)  # one look at its file serves all requests
        for position, request in enumerate(asked):
            try:
                each = self._ready(position, request, current)
                ready[_network(each.classifier)].append(each)
            except Exception as error:
                outcomes[position] = _told(error)
        for together in ready.values():
            outcomes.update(_answers(together))
        return [outcomes[position] for position in range(len(asked))]

    def predict_one(self, request: PredictionRequest) -> Predictions:
        """The predictions for one request. Raises the errors of `decode`."""
        outcomes = [self.predict([part])[0] for part in self.decode(request).parts()]
        return joined([raised(outcome) for outcome in outcomes])

    def decode(self, request: PredictionRequest) -> PredictionRequest:
        """The request with its pictures decoded, whatever that takes.

        Raises NotFound, NotReady, InvalidRequest, PictureTooLarge, UnreadablePicture, Abandoned, and what the charge of
        the upload raises.
        """
        predictor = self._loaded.current(request.identifier)
        work, limits = self._checked(request, predictor[0])
        pixels = decode_checked(request.pictures, work, predictor[0].image_shape, limits=limits)
        return replace(request, pixels=pixels, predictor=predictor)

    def _ready(self, position: int, request: PredictionRequest, current: Callable[[str], Predictor]) -> _Ready:
        if request.pixels is not None and request.predictor is not None:
            return _Ready(position, request.predictor, request.pixels, request.top)
        predictor = current(request.identifier)
        work, limits = self._checked(request, predictor[0])
        if sum(work) > QUICK_WORK:
            raise MustBeDecodedFirst
        pixels = decode_checked(request.pictures, work, predictor[0].image_shape, limits=limits)
        return _Ready(position, predictor, pixels, request.top)

    def _checked(self, request: PredictionRequest, classifier: Classifier) -> tuple[list[int], PictureLimits]:
        """The work of decoding each picture, and the limits of this request."""
        if not request.pictures:
            raise InvalidRequest("send one picture or more, as files in parts named 'images'", parameter="images")
        check_answer_size(len(request.pictures), classifier.labels, request.top)
        limits = replace(self._limits, upload=request.upload)
        return check_work(request.pictures, limits), limits


def _told(error: Exception) -> Exception:
    """The error; what a caller did wrong is told without a traceback.

    The frames of a traceback keep the pictures, and the error itself: garbage in a cycle, which nobody frees for long.
    """
    if isinstance(error, InvalidRequest | Overloaded | Abandoned):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    return error


def _network(classifier: Classifier) -> Hashable:
    """What computes the larger part of a prediction."""
    return classifier.encoder if isinstance(classifier, FeatureClassifier) else classifier


def _answers(together: Sequence[_Ready]) -> dict[int, Outcome]:
    """The outcomes of requests for one network, by their positions."""
    try:
        return _together(together)
    except Exception as error:
        if len(together) == 1:
            return {together[0].position: error}
        # One of the requests may be at fault, and the others are not.
        return {position: outcome for each in together for position, outcome in _answers([each]).items()}


def _together(together: Sequence[_Ready]) -> dict[int, Outcome]:
    pixels = from_bytes(np.concatenate([each.pixels for each in together]))
    first = together[0].classifier
    if isinstance(first, FeatureClassifier):
        computed = torch.from_numpy(first.encoder.encode(pixels))
    else:
        computed = first.predict_probabilities(torch.from_numpy(pixels))
    outcomes: dict[int, Outcome] = {}
    for each, own in zip(together, torch.split(computed, [len(each.pixels) for each in together]), strict=True):
        classifier, by = each.predictor
        probabilities, familiarity = own, None
        if isinstance(classifier, FeatureClassifier):
            probabilities, familiarity = classifier.classify(own), classifier.familiarity(own)
        outcomes[each.position] = Predictions(
            tuple(classifier.labels),
            probabilities.numpy(),
            by,
            each.top,
            None if familiarity is None else familiarity.numpy(),
        )
    return outcomes
