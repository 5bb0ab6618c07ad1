"""Every error that this client raises on purpose, as one tree. What the server refuses mirrors its own tree.

    RecallError
    ├── NoAnswer                 the server could not be reached, or broke off
    │   └── AnswerTimeout        it did not answer in time (also a TimeoutError)
    ├── UnexpectedAnswer         an answer that this version of the client does not understand
    ├── StillTraining            `wait` ran out of time; the classifier trains on (also a TimeoutError)
    ├── TrainingEnded            there will be no classifier
    │   ├── TrainingFailed       the training failed; the message says why
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
        └── ServerFailed         the server's own fault
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


class StillTraining(RecallError, TimeoutError):
    """`wait` ran out of time. The classifier trains on, and can be waited for again."""


class TrainingEnded(RecallError):
    """The training ended without a classifier."""


class TrainingFailed(TrainingEnded):
    """The training failed; the message is the server's reason."""


class TrainingCancelled(TrainingEnded):
    """Somebody cancelled the training."""


@dataclass(frozen=True)
class ProblemDocument:
    """What RFC 9457 and the server say about a refusal. `parameter` names the culprit, where there is one."""

    status: int
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    instance: str | None = None
    parameter: str | None = None
    suggestions: Sequence[str] = ()
    candidates: Sequence[str] = ()
    errors: Sequence[Mapping[str, object]] = ()

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


class ServerFailed(Problem):
    """The server's own fault; nothing about the request was wrong."""


class StorageFailed(ServerFailed):
    """The server's disk is full or cannot be written."""


_BY_TYPE: dict[str, type[Problem]] = {
    "ambiguous-label": AmbiguousLabel,
    "body-too-large": BodyTooLarge,
    "invalid-request": InvalidRequest,
    "not-found": NotFound,
    "not-ready": NotReady,
    "picture-too-large": PictureTooLarge,
    "storage-failed": StorageFailed,
    "unknown-label": UnknownLabel,
    "unreadable-picture": UnreadablePicture,
    "unsupported-query": UnsupportedQuery,
}
_BY_STATUS: dict[int, type[Problem]] = {
    400: InvalidRequest,
    404: NotFound,
    413: BodyTooLarge,
    422: InvalidRequest,
    507: StorageFailed,
}


def problem(document: ProblemDocument) -> Problem:
    """The error of the tree for a problem document; of a type that is not known here, the nearest by its status."""
    name = document.type.rpartition("/")[2]
    by_status = _BY_STATUS.get(document.status, ServerFailed if document.status >= 500 else Problem)
    return _BY_TYPE.get(name, by_status)(document)
