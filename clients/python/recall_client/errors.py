"""The errors that this client raises, as one tree. The errors below `Problem` mirror the server's problem types.

    RecallError
    ├── NoAnswer                 the server could not be reached, or the connection broke
    │   └── AnswerTimeout        the server did not answer in time (also a TimeoutError)
    ├── UnexpectedAnswer         an answer that this version of the client does not understand
    ├── UnreadableClassifier     a file that is not a usable classifier
    ├── StillTraining            `wait` timed out; the training continues (also a TimeoutError)
    ├── TrainingEnded            the training ended without a classifier
    │   ├── TrainingFailed       the training failed; the message gives the reason
    │   │   ├── WorkerLost           its worker died on every attempt
    │   │   └── QueueExpired         it waited in the queue for longer than the server allows
    │   └── TrainingCancelled    the training was cancelled
    └── Problem                  the server refused: a problem document (RFC 9457)
        ├── InvalidRequest       the request cannot be answered; the message says what would be right
        │   ├── UnknownLabel         `suggestions` holds the nearest known labels
        │   ├── AmbiguousLabel       `candidates` holds the qualified `bundle:label` names
        │   ├── UnreadablePicture    not a picture, or in a format that is not accepted
        │   ├── PictureTooLarge      more pixels or bytes than the server's limit
        │   ├── BodyTooLarge         a request body larger than the server's limit
        │   └── UnsupportedQuery     the memory does not support this kind of query
        ├── NotFound             no bundle or classifier of that name
        ├── NotReady             the classifier is still training, failed or was cancelled
        ├── Conflict             an idempotency key that was used for another request
        ├── Unauthorised         a missing or unknown API key
        ├── Forbidden            an API key whose scope is too narrow
        ├── TryAgain             refused for now; `retry_after` says when to try again
        │   ├── Overloaded           the queue is full, or the caller's quota is used up
        │   └── Unavailable          the server is stopping, or has no worker
        └── ServerFailed         a fault of the server, or of a proxy in front of it
            └── StorageFailed    the server's disk is full or not writable

Arguments that are wrong whatever the server says raise `TypeError`, `ValueError` or `OSError`, and nothing is sent.
Every error can be pickled and copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class RecallError(Exception):
    """Base class of all errors that this client raises itself."""


class NoAnswer(RecallError):
    """The server could not be reached, or the connection broke before the answer was complete."""


class AnswerTimeout(NoAnswer, TimeoutError):
    """The server did not answer in time."""


class UnexpectedAnswer(RecallError):
    """The answer is not what this version of the client understands; perhaps it is not from a recall server."""


class UnreadableClassifier(RecallError):
    """The file is not a usable classifier: damaged, of another kind, or with parts outside the file."""


class StillTraining(RecallError, TimeoutError):
    """`wait` timed out. The training continues, and `wait` can be called again."""


class TrainingEnded(RecallError):
    """The training ended without a classifier."""


class TrainingFailed(TrainingEnded):
    """The training failed; the message gives the server's reason."""


class WorkerLost(TrainingFailed):
    """The worker died on every attempt."""


class QueueExpired(TrainingFailed):
    """The training waited in the queue for longer than the server allows."""


class TrainingCancelled(TrainingEnded):
    """The training was cancelled."""


@dataclass(frozen=True)
class ProblemDocument:
    """A problem document (RFC 9457) with the server's extensions.

    `parameter` is the parameter or part at fault, where the server names one; `errors` lists several mistakes of one
    request. `retry_after` is the header Retry-After in seconds, None without one.
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
        """The detail, or the title without one, followed by each of `errors`."""
        mistakes = [f"{mistake.get('parameter')}: {mistake.get('detail')}" for mistake in self.errors]
        return "; ".join([self.detail or self.title or "no reason given", *mistakes])


class Problem(RecallError):
    """The server refused the request. `document` holds its whole answer; the message is its detail."""

    def __init__(self, document: ProblemDocument) -> None:
        super().__init__(document)
        self.document = document

    def __str__(self) -> str:
        return self.document.sentence

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.document.status

    @property
    def parameter(self) -> str | None:
        """The parameter or part at fault, where the server names one."""
        return self.document.parameter


class InvalidRequest(Problem):
    """The request cannot be answered."""


class UnknownLabel(InvalidRequest):
    """No loaded bundle knows the label."""

    @property
    def suggestions(self) -> tuple[str, ...]:
        """The nearest known labels, best first."""
        return tuple(self.document.suggestions)


class AmbiguousLabel(InvalidRequest):
    """Several bundles know the label."""

    @property
    def candidates(self) -> tuple[str, ...]:
        """The qualified names, `bundle:label`, of which one is meant."""
        return tuple(self.document.candidates)


class UnreadablePicture(InvalidRequest):
    """The bytes are not a picture, or in a format that is not accepted; `parameter` names the part."""


class PictureTooLarge(InvalidRequest):
    """A picture has more pixels or bytes than the server's limit; `parameter` names the part."""


class BodyTooLarge(InvalidRequest):
    """The request body is larger than the server's limit: send fewer or smaller pictures."""


class UnsupportedQuery(InvalidRequest):
    """The memory does not support this kind of query, for example pictures without an encoder."""


class NotFound(Problem):
    """There is no bundle or classifier of that name."""


class NotReady(Problem):
    """The classifier is still training, failed, or was cancelled."""


class Conflict(Problem):
    """The idempotency key was used for another request, or there is another bundle of this name."""


class Unauthorised(Problem):
    """The API key is missing or unknown."""


class Forbidden(Problem):
    """The API key's scope does not cover this request."""


class TryAgain(Problem):
    """The server refuses for now; the same request may succeed later."""

    @property
    def retry_after(self) -> float | None:
        """Seconds after which to try again; None where the server gave no time."""
        return self.document.retry_after


class Overloaded(TryAgain):
    """The queue is full, or the caller's quota of requests or pictures is used up."""


class Unavailable(TryAgain):
    """The server is starting or stopping, or has no worker."""


class ServerFailed(Problem):
    """The server failed, or a proxy in front of it did; the request itself may be right."""


class StorageFailed(ServerFailed):
    """The server's disk is full or not writable."""


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
    "precondition-failed": Conflict,
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
    412: Conflict,
    413: BodyTooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Overloaded,
    503: Unavailable,
    507: StorageFailed,
}
_ENDED_BY_TYPE: dict[str, type[TrainingFailed]] = {"worker-lost": WorkerLost, "queue-expired": QueueExpired}


def problem(document: ProblemDocument) -> Problem:
    """Return the error for a problem document: by its type, or by its status where this client lacks the type."""
    by_status = _BY_STATUS.get(document.status, ServerFailed if document.status >= 500 else Problem)
    return _BY_TYPE.get(_slug(document.type), by_status)(document)


def training_failure(problem_type: str, message: str) -> TrainingFailed:
    """Return the error for the problem type that ended a training."""
    return _ENDED_BY_TYPE.get(_slug(problem_type), TrainingFailed)(message)


def _slug(problem_type: str) -> str:
    return problem_type.rpartition("/")[2]
