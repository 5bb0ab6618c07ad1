"""Every error this project raises on purpose, as one tree. No HTTP in here: `api/problems.py` maps it.

RecallError
├── InvalidRequest               what the caller sent cannot be answered; the message says what would be right
│   ├── UnknownLabel             a name that no loaded bundle knows (with the nearest ones that are known)
│   ├── AmbiguousLabel           a name that two bundles know; `bundle:label` says which
│   ├── UnreadablePicture        not a picture, or of a kind that is not accepted
│   ├── PictureTooLarge          more pixels or bytes than the limit
│   └── UnsupportedQuery         the memory cannot be addressed this way
├── NotFound                     no bundle, classifier or file of that name
├── NotReady                     it exists but cannot be used yet (a classifier still training)
├── Conflict                     it contradicts what was said before (an idempotency key of another request)
├── Unauthorised                 no key, or one that nobody was given
├── Forbidden                    a good key that does not reach this far
├── TryAgain                     not at the moment; it says after how many seconds another try is worth it
│   ├── Overloaded               too much work: the queue is full, the caller's share is used up
│   └── Unavailable              nobody is there to do it: the server is stopping, or has no worker
├── Abandoned                    the caller has left, and nobody waits for the answer
├── NotFitted                    predict, save or export before fit
├── InvalidBundle                a bundle file that must not be loaded
├── InvalidDataset               a data set that cannot be distilled or evaluated
├── InvalidCheckpoint            a checkpoint of another run, or a damaged one
├── TrainingFailed               a training job ended without a classifier
│   ├── WorkerLost               its worker died, as often as it was tried
│   └── QueueExpired             it waited longer than a job may wait
└── StorageFailed                the disk is full or cannot be written; nothing half-written is left behind
"""

from __future__ import annotations


class RecallError(Exception):
    """The root: `except RecallError` catches everything that this project raises on purpose."""


class InvalidRequest(RecallError):
    """What the caller sent cannot be answered. `parameter` names the culprit, where there is one."""

    def __init__(self, message: str, *, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class UnknownLabel(InvalidRequest):
    """A label that no loaded bundle knows; `suggestions` holds the nearest known ones, best first."""

    def __init__(self, label: str, suggestions: list[str], *, parameter: str = "labels") -> None:
        hint = f"did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else "GET /bundles lists all"
        super().__init__(f"no loaded bundle knows the label {label!r}; {hint}", parameter=parameter)
        self.label = label
        self.suggestions = suggestions


class AmbiguousLabel(InvalidRequest):
    """A label that several bundles know; `candidates` holds the qualified names that would be right."""

    def __init__(self, label: str, candidates: list[str], *, parameter: str = "labels") -> None:
        super().__init__(
            f"several bundles know the label {label!r}; say which: {', '.join(candidates)}", parameter=parameter
        )
        self.label = label
        self.candidates = candidates


class UnreadablePicture(InvalidRequest):
    """The bytes are no picture, or one of a kind that is not accepted."""


class PictureTooLarge(InvalidRequest):
    """A picture with more pixels or bytes than the limit."""


class UnsupportedQuery(InvalidRequest):
    """The memory cannot be addressed this way (pictures to a memory without an encoder, a vector too long...)."""


class NotFound(RecallError):
    """No bundle, classifier or file of that name."""


class NotReady(RecallError):
    """It exists, but it cannot be used yet or any more (a classifier that is still training, or failed)."""


class Conflict(RecallError):
    """It contradicts what was said before: an idempotency key that came with another request."""


class Unauthorised(RecallError):
    """No key was sent where one is needed, or one that nobody was given."""


class Forbidden(RecallError):
    """The key is good, but its scope does not reach this far."""


class TryAgain(RecallError):
    """Not at the moment. After `retry_after` seconds it is worth another try."""

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(TryAgain):
    """Too much work at the moment."""


class Unavailable(TryAgain):
    """Nobody is there to do it at the moment."""


class Abandoned(RecallError):
    """The caller has left, and nobody waits for the answer."""


class NotFitted(RecallError):
    """`predict`, `save` or `export_onnx` was called before `fit`."""


class InvalidBundle(RecallError):
    """A bundle file that must not be loaded: damaged, hostile, or of another format version."""


class InvalidDataset(RecallError):
    """A data set that cannot be distilled or evaluated."""


class InvalidCheckpoint(RecallError):
    """A checkpoint that belongs to another run, or that is damaged."""


class TrainingFailed(RecallError):
    """A training job ended without a classifier."""


class WorkerLost(TrainingFailed):
    """The worker died in the middle of the job, as often as it was tried."""


class QueueExpired(TrainingFailed):
    """The job waited longer than a job may wait, and was not begun."""


class StorageFailed(RecallError):
    """The disk is full or cannot be written; nothing half-written is left behind."""
