"""Python client of the memory-recall server: a trained image classifier from names or a few pictures, in seconds.

from recall_client import RecallClient

with RecallClient("http://127.0.0.1:8000") as client:
    classifier = client.train(["Sneaker", "Bag"]).wait()
    print(classifier.predict(["photo.jpg"])[0].label)
"""

from ._version import __version__
from .arrays import RecalledArrays
from .classifier import Classifier
from .client import RecallClient
from .errors import (
    AmbiguousLabel,
    AnswerTimeout,
    BodyTooLarge,
    InvalidRequest,
    NoAnswer,
    NotFound,
    NotReady,
    PictureTooLarge,
    Problem,
    RecallError,
    ServerFailed,
    StillTraining,
    StorageFailed,
    TrainingCancelled,
    TrainingEnded,
    TrainingFailed,
    UnexpectedAnswer,
    UnknownLabel,
    UnreadablePicture,
    UnsupportedQuery,
)
from .models import Bundle, ClassifierState, Prediction, Recalled, RecalledQuery, ServerInfo
from .pictures import Picture, PictureLike, Pictures

__all__ = [
    "AmbiguousLabel",
    "AnswerTimeout",
    "BodyTooLarge",
    "Bundle",
    "Classifier",
    "ClassifierState",
    "InvalidRequest",
    "NoAnswer",
    "NotFound",
    "NotReady",
    "Picture",
    "PictureLike",
    "PictureTooLarge",
    "Pictures",
    "Prediction",
    "Problem",
    "RecallClient",
    "RecallError",
    "Recalled",
    "RecalledArrays",
    "RecalledQuery",
    "ServerFailed",
    "ServerInfo",
    "StillTraining",
    "StorageFailed",
    "TrainingCancelled",
    "TrainingEnded",
    "TrainingFailed",
    "UnexpectedAnswer",
    "UnknownLabel",
    "UnreadablePicture",
    "UnsupportedQuery",
    "__version__",
]
