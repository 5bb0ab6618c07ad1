"""The verbs of the server, free of HTTP: recall, train, predict, download."""

from __future__ import annotations

from recall_server.service.bounded_cache import BoundedCache
from recall_server.service.from_settings import job_limits
from recall_server.service.loaded_classifiers import check_predictor
from recall_server.service.predictions import Prediction, Predictions
from recall_server.service.requests import Caller, DownloadFormat, RecallOptions, TrainingReceipt
from recall_server.service.service import RecallService

__all__ = [
    "BoundedCache",
    "Caller",
    "DownloadFormat",
    "Prediction",
    "Predictions",
    "RecallOptions",
    "RecallService",
    "TrainingReceipt",
    "check_predictor",
    "job_limits",
]
