"""The exceptions that this project raises on purpose. They know nothing of HTTP; the API maps them to status codes.

RecallError
├── InvalidRequest               the request cannot be answered; the message says what a valid one would be
│   ├── UnknownLabel             no loaded bundle has this label; carries the nearest labels that exist
│   ├── AmbiguousLabel           several bundles have this label; `bundle:label` selects one
│   ├── UnreadablePicture        not a picture, damaged, or in an unsupported format
│   ├── PictureTooLarge          more pixels or bytes than the limit
│   └── UnsupportedQuery         the memory does not support this kind of query
├── NotFound                     no bundle, classifier or file of that name
├── NotReady                     it exists but cannot be used in its present state (a classifier still training)
├── Conflict                     the request contradicts an earlier one (a reused idempotency key)
├── Unauthorised                 the API key is missing or unknown
├── Forbidden                    the API key's scope does not allow this
├── TryAgain                     temporarily refused; `retry_after` says how many seconds to wait
│   ├── Overloaded               the queue is full, or the caller's quota is used up
│   └── Unavailable              the server is stopping, or has no worker
├── Abandoned                    the caller has left, and nobody waits for the answer
├── NotFitted                    predict, save or export was called before fit
├── InvalidBundle                a bundle file that must not be loaded
├── InvalidDataset               a data set that cannot be distilled or evaluated
├── InvalidCheckpoint            a checkpoint of another run, or a damaged one
├── TrainingFailed               a training job ended without a classifier
│   ├── WorkerLost               the worker died on every attempt
│   └── QueueExpired             the job exceeded the maximum waiting time before it started
└── StorageFailed                the disk is full or not writable; no partial file is left behind
    └── StorageBusy              the same for a moment: no file handle is left, or the database does not answer
"""

from __future__ import annotations

from typing import Any


class RecallError(Exception):
    """The base class: `except RecallError` catches everything that this project raises on purpose.

    Errors cross process borders: they are restored without `__init__`, whose arguments an error does not keep.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, vars(self).copy())


def _restored(kind: type[RecallError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> RecallError:
    error = kind.__new__(kind, *arguments)
    vars(error).update(attributes)
    return error


class InvalidRequest(RecallError):
    """The request cannot be answered. `parameter` names the offending parameter, if there is a single one."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownLabel(InvalidRequest):
    """No loaded bundle has this label; `suggestions` holds the nearest known labels, best first."""

    def __init__(self, label: str, suggestions: list[str], *, parameter: str = "labels") -> None:
        hint = f"did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else "GET /bundles lists all"
        super().__init__(f"no loaded bundle knows the label {label!r}; {hint}", parameter=parameter)
        self.label = label
        self.suggestions = suggestions


class AmbiguousLabel(InvalidRequest):
    """Several bundles have this label; `candidates` holds the qualified names to choose from."""

    def __init__(self, label: str, candidates: list[str], *, parameter: str = "labels") -> None:
        super().__init__(
            f"several bundles know the label {label!r}; say which: {', '.join(candidates)}", parameter=parameter
        )
        self.label = label
        self.candidates = candidates


class UnreadablePicture(InvalidRequest):
    """The bytes are not a picture, are damaged, or are in an unsupported format."""


class PictureTooLarge(InvalidRequest):
    """The picture has more pixels or bytes than the limit."""


class UnsupportedQuery(InvalidRequest):
    """The memory does not support this query (pictures without an encoder, a vector of the wrong length...)."""


class NotFound(RecallError):
    """No bundle, classifier or file of that name."""


class NotReady(RecallError):
    """It exists but cannot be used in its present state (a classifier that is still training, or that failed)."""


class Conflict(RecallError):
    """The request contradicts an earlier one: an idempotency key was reused for a different request."""


class Unauthorised(RecallError):
    """An API key is required, and none or an unknown one was sent."""


class Forbidden(RecallError):
    """The API key is valid, but its scope does not allow this."""


class TryAgain(RecallError):
    """The request is refused for now; retry it after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(TryAgain):
    """The queue is full, or the caller's quota is used up."""


class Unavailable(TryAgain):
    """The server is stopping, or has no worker."""


class Abandoned(RecallError):
    """The caller has left, and nobody waits for the answer."""


class NotFitted(RecallError):
    """`predict`, `save` or `export_onnx` was called before `fit`."""


class InvalidBundle(RecallError):
    """A bundle file that must not be loaded: damaged, hostile, or of another format version."""


class InvalidDataset(RecallError):
    """A data set that cannot be distilled or evaluated."""


class InvalidCheckpoint(RecallError):
    """The checkpoint belongs to another run, or is damaged."""


class TrainingFailed(RecallError):
    """The training job ended without a classifier."""


class WorkerLost(TrainingFailed):
    """The worker died during the job on every attempt."""


class QueueExpired(TrainingFailed):
    """The job exceeded the maximum waiting time before it started."""


class StorageFailed(RecallError):
    """The disk is full or not writable; no partial file is left behind."""


class StorageBusy(StorageFailed):
    """The same for a moment: no file handle or memory is left, or the database server of the job table does not answer.

    Another try after `retry_after` seconds may succeed.
    """

    retry_after = 2
