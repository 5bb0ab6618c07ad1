"""Every error that this client raises on purpose, as one tree. What the server refuses mirrors its own tree.

    RecallError
    ├── NoAnswer                 the server could not be reached, or broke off
    │   └── AnswerTimeout        it did not answer in time (also a TimeoutError)
    ├── UnexpectedAnswer         an answer that this version of the client does not understand
    ├── UnreadableClassifier     a file that is no classifier to predict with
    ├── StillTraining            `wait` ran out of time; the classifier trains on (also a TimeoutError)
    ├── TrainingEnded            there will be no classifier
    │   ├── TrainingFailed       the training failed; the message says why
    │   │   ├── WorkerLost           its worker died, as often as it was tried
    │   │   └── QueueExpired         it waited longer than a training may wait
    │   └── TrainingCancelled    somebody cancelled it
    └── Problem                  the server refused: a problem document (RFC 9457)
        ├── InvalidRequest       what was sent cannot be answered; the message says what would be right
        │   ├── UnknownLabel         `suggestions` holds the nearest known labels
        │   ├── AmbiguousLabel       `candidates` holds the `bundle:label` names that would be right
        │   ├── UnreadablePicture    not a picture, or of a kind that is not accepted
        │   ├── PictureTooLarge      more pixels or bytes than the server's limit
        │   ├── BodyTooLarge         all parts together are more than the server's limit
        │   └── UnsupportedQuery     the memory cannot be addressed this way
        ├── NotFound             no bundle or classifier of that name
        ├── NotReady             the classifier is still training, failed or was cancelled
        ├── Conflict             an idempotency key that came with another request before
        ├── Unauthorised         no API key, or one that the server does not know
        ├── Forbidden            a good API key that does not reach this far
        ├── TryAgain             not at the moment; `retry_after` says when another try is worth it
        │   ├── Overloaded           too much work: the queue is full, or the caller's share is used up
        │   └── Unavailable          nobody is there to do it: the server is stopping, or has no worker
        └── ServerFailed         the server's own fault, or that of something in between
            └── StorageFailed    its disk is full or cannot be written

Arguments that are seen to be wrong without asking the server raise Python's `TypeError`, `ValueError` and `OSError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class RecallError(Exception):
    """The root: `except RecallError` catches everything that this client raises on purpose."""


class NoAnswer(RecallError):
    """The server could not be reached, or it broke off in the middle of its answer."""


class AnswerTimeout(NoAnswer, TimeoutError):
    """The server did not answer in time."""


class UnexpectedAnswer(RecallError):
    """An answer that this version of the client does not understand; perhaps another kind of server gave it."""


class UnreadableClassifier(RecallError):
    """A file that is no classifier to predict with: damaged, or of another kind."""


class StillTraining(RecallError, TimeoutError):
    """`wait` ran out of time. The classifier trains on, and can be waited for again."""


class TrainingEnded(RecallError):
    """The training ended without a classifier."""


class TrainingFailed(TrainingEnded):
    """The training failed; the message is the server's reason."""


class WorkerLost(TrainingFailed):
    """The worker that trained it died, as often as it was tried."""


class QueueExpired(TrainingFailed):
    """It waited in the queue for longer than a training may wait."""


class TrainingCancelled(TrainingEnded):
    """Somebody cancelled the training."""


@dataclass(frozen=True)
class ProblemDocument:
    """What RFC 9457 and the server say about a refusal. `parameter` names the culprit, where there is one.

    `retry_after` is in seconds, from the header Retry-After; None without one.
    """

    status: int
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    instance: str | None = None
    parameter: str | None = None
    suggestions: Sequence[str] = ()
    candidates: Sequence[str] = ()
    errors: Sequence[Mapping[str, object]] = ()
    retry_after: float | None = None

    @property
    def sentence(self) -> str:
        """The most telling of what the server said, with the single mistakes where a request has several."""
        mistakes = [f"{mistake.get('parameter')}: {mistake.get('detail')}" for mistake in self.errors]
        return "; ".join([self.detail or self.title or "no reason given", *mistakes])


class Problem(RecallError):
    """The server refused. `document` holds all that it said; the message is its own sentence."""

    def __init__(self, document: ProblemDocument) -> None:
        super().__init__(document.sentence)
        self.document = document

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.document.status

    @property
    def parameter(self) -> str | None:
        """The parameter or part that was wrong, where the server named one."""
        return self.document.parameter


class InvalidRequest(Problem):
    """What was sent cannot be answered."""


class UnknownLabel(InvalidRequest):
    """A label that no loaded bundle knows; `suggestions` holds the nearest known ones, best first."""

    @property
    def suggestions(self) -> tuple[str, ...]:
        return tuple(self.document.suggestions)


class AmbiguousLabel(InvalidRequest):
    """A label that several bundles know; `candidates` holds the qualified names that would be right."""

    @property
    def candidates(self) -> tuple[str, ...]:
        return tuple(self.document.candidates)


class UnreadablePicture(InvalidRequest):
    """The bytes are no picture, or one of a kind that is not accepted; `parameter` names the part."""


class PictureTooLarge(InvalidRequest):
    """A picture with more pixels or bytes than the server's limit; `parameter` names the part."""


class BodyTooLarge(InvalidRequest):
    """All parts together are more than the server's limit: send fewer or smaller pictures."""


class UnsupportedQuery(InvalidRequest):
    """The memory cannot be addressed this way (pictures to a memory without an encoder, a vector too long...)."""


class NotFound(Problem):
    """No bundle or classifier of that name."""


class NotReady(Problem):
    """It exists but cannot be used: a classifier that is still training, that failed, or that was cancelled."""


class Conflict(Problem):
    """It contradicts what was said before: an idempotency key that came with another request."""


class Unauthorised(Problem):
    """No API key was sent where one is needed, or one that the server does not know."""


class Forbidden(Problem):
    """The API key is good, but its scope does not reach this far."""


class TryAgain(Problem):
    """Not at the moment. After `retry_after` seconds another try is worth it; None where the server named no time."""

    @property
    def retry_after(self) -> float | None:
        return self.document.retry_after


class Overloaded(TryAgain):
    """Too much work at the moment: the queue is full, or the caller's share of requests or pictures is used up."""


class Unavailable(TryAgain):
    """Nobody is there to do it at the moment: the server is stopping or starting, or has no worker."""


class ServerFailed(Problem):
    """The fault of the server, or of something in between; nothing about the request was wrong."""


class StorageFailed(ServerFailed):
    """The server's disk is full or cannot be written."""


_BY_TYPE: dict[str, type[Problem]] = {
    "ambiguous-label": AmbiguousLabel,
    "body-too-large": BodyTooLarge,
    "conflict": Conflict,
    "forbidden": Forbidden,
    "invalid-request": InvalidRequest,
    "not-found": NotFound,
    "not-ready": NotReady,
    "overloaded": Overloaded,
    "picture-too-large": PictureTooLarge,
    "storage-failed": StorageFailed,
    "unauthorised": Unauthorised,
    "unavailable": Unavailable,
    "unknown-label": UnknownLabel,
    "unreadable-picture": UnreadablePicture,
    "unsupported-query": UnsupportedQuery,
}
_BY_STATUS: dict[int, type[Problem]] = {
    400: InvalidRequest,
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    406: InvalidRequest,
    408: InvalidRequest,
    413: BodyTooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
    507: StorageFailed,
}
_ENDED_BY_TYPE: dict[str, type[TrainingFailed]] = {"worker-lost": WorkerLost, "queue-expired": QueueExpired}


def problem(document: ProblemDocument) -> Problem:
    """The error of the tree for a problem document; of a type that is not known here, the nearest by its status."""
    by_status = _BY_STATUS.get(document.status, ServerFailed if document.status >= 500 else Problem)
    return _BY_TYPE.get(_slug(document.type), by_status)(document)


def training_failure(problem_type: str, message: str) -> TrainingFailed:
    """The error of the tree for the type of problem that ended a training."""
    return _ENDED_BY_TYPE.get(_slug(problem_type), TrainingFailed)(message)


def _slug(problem_type: str) -> str:
    return problem_type.rpartition("/")[2]
