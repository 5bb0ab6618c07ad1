"""Python client of the memory-recall server: a trained image classifier from names or a few pictures, in seconds.

from recall_client import RecallClient

with RecallClient("http://127.0.0.1:8000") as client:
    classifier = client.train(["Sneaker", "Bag"]).wait()
    print(classifier.predict(["photo.jpg"])[0].label)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from recall_client._version import __version__
from recall_client.client.blocking import Classifier, RecallClient
from recall_client.errors import (
    AmbiguousLabel,
    AnswerTimeout,
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotReady,
    Overloaded,
    PictureTooLarge,
    Problem,
    ProblemDocument,
    QueueExpired,
    RecallError,
    ServerFailed,
    StillTraining,
    StorageFailed,
    TrainingCancelled,
    TrainingEnded,
    TrainingFailed,
    TryAgain,
    Unauthorised,
    Unavailable,
    UnexpectedAnswer,
    UnknownLabel,
    UnreadableClassifier,
    UnreadablePicture,
    UnsupportedQuery,
    WorkerLost,
)
from recall_client.local.classifier import LocalClassifier
from recall_client.messages.arrays import RecalledArrays
from recall_client.messages.explanation import Explanation, Influence
from recall_client.messages.models import (
    Accuracy,
    Bases,
    Bundle,
    BundleReference,
    ClassifierFile,
    ClassifierState,
    Event,
    Failure,
    ImageShape,
    Prediction,
    Progress,
    Quality,
    Recalled,
    RecalledQuery,
    ServerInfo,
    Similarity,
    StatedAccuracy,
    WayScore,
)
from recall_client.messages.queries import Addressing, Labels, PicturesByName, Queries
from recall_client.pictures import Picture, PictureLike, Pictures, class_folders

if TYPE_CHECKING:
    from recall_client.client.asyncio import AsyncClassifier, AsyncRecallClient

__all__ = [
    "Accuracy",
    "Addressing",
    "AmbiguousLabel",
    "AnswerTimeout",
    "AsyncClassifier",
    "AsyncRecallClient",
    "Bases",
    "BodyTooLarge",
    "Bundle",
    "BundleReference",
    "Classifier",
    "ClassifierFile",
    "ClassifierState",
    "Conflict",
    "Event",
    "Explanation",
    "Failure",
    "Forbidden",
    "ImageShape",
    "Influence",
    "InvalidRequest",
    "Labels",
    "LocalClassifier",
    "NoAnswer",
    "NotFound",
    "NotReady",
    "Overloaded",
    "Picture",
    "PictureLike",
    "PictureTooLarge",
    "Pictures",
    "PicturesByName",
    "Prediction",
    "Problem",
    "ProblemDocument",
    "Progress",
    "Quality",
    "Queries",
    "QueueExpired",
    "RecallClient",
    "RecallError",
    "Recalled",
    "RecalledArrays",
    "RecalledQuery",
    "ServerFailed",
    "ServerInfo",
    "Similarity",
    "StatedAccuracy",
    "StillTraining",
    "StorageFailed",
    "TrainingCancelled",
    "TrainingEnded",
    "TrainingFailed",
    "TryAgain",
    "Unauthorised",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownLabel",
    "UnreadableClassifier",
    "UnreadablePicture",
    "UnsupportedQuery",
    "WayScore",
    "WorkerLost",
    "__version__",
    "class_folders",
]


def __getattr__(name: str) -> object:
    """Import the asyncio client on first use: the blocking client does without asyncio."""
    if name not in ("AsyncClassifier", "AsyncRecallClient"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("recall_client.client.asyncio"), name)
