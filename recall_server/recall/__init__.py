"""From labels and pictures to queries, to recalled images, to a training set."""

from __future__ import annotations

from recall_server.recall.addressing import Addressing, ResolvedPictures, resolve_pictures
from recall_server.recall.own_pictures import add_own_pictures
from recall_server.recall.queries import (
    Query,
    label_queries,
    mixture_queries,
    picture_queries,
    vector_queries,
)
from recall_server.recall.recalled import PerLabel, Recalled, RecalledQuery, recall
from recall_server.recall.training_set import (
    BundleQuery,
    SharedFormat,
    TrainingSet,
    build_training_set,
    crop_and_resize,
    shared_format,
)
from recall_server.recall.uploads import DIRECT, Picture, PictureLimits, Upload

__all__ = [
    "DIRECT",
    "Addressing",
    "BundleQuery",
    "PerLabel",
    "Picture",
    "PictureLimits",
    "Query",
    "Recalled",
    "RecalledQuery",
    "ResolvedPictures",
    "SharedFormat",
    "TrainingSet",
    "Upload",
    "add_own_pictures",
    "build_training_set",
    "crop_and_resize",
    "label_queries",
    "mixture_queries",
    "picture_queries",
    "recall",
    "resolve_pictures",
    "shared_format",
    "vector_queries",
]
