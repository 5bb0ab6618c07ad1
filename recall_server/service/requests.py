"""What the verbs of the service take and return."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from recall_server.jobs.rows.records import ClassifierRecord, IdempotencyKey
from recall_server.recall.queries import Picture
from recall_server.recall.recalled import PerLabel
from recall_server.service.predictors import AnswerSource

DownloadFormat = Literal["safetensors", "onnx"]


@final
@dataclass(frozen=True)
class RecallOptions:
    """How many images of each query, drawn with which seed, and in which bundle names are looked up."""

    bundle: str | None = None
    per_label: PerLabel = None
    seed: int | None = None


@final
@dataclass(frozen=True)
class Caller:
    """Who asks for a training, and the key under which the same request may be repeated."""

    idempotency_key: str | None = None
    caller: str | None = None

    def key(self, pictures: Sequence[Picture] = (), **parameters: object) -> IdempotencyKey | None:
        """The key with a digest of the request; None for a caller who sent no key.

        The digest is of what the caller sent, not of what it means at the moment: the answer to a repeated request does
        not depend on which bundles are loaded then.
        """
        if self.idempotency_key is None:
            return None
        hashes = [[picture.part, hashlib.sha256(picture.data).hexdigest()] for picture in pictures]
        request = json.dumps(parameters | {"pictures": hashes}, sort_keys=True)
        return IdempotencyKey(self.caller or "", self.idempotency_key, hashlib.sha256(request.encode()).hexdigest())


DEFAULT_OPTIONS, ANONYMOUS = RecallOptions(), Caller()


@final
@dataclass(frozen=True)
class TrainingReceipt:
    """A training that was accepted, and how many pictures it will compute; none where it is shared or known already."""

    record: ClassifierRecord
    work: int


@final
@dataclass(frozen=True)
class Prediction:
    """The most probable label of one picture, the probability of each, and what said so."""

    label: str
    probabilities: dict[str, float]
    by: AnswerSource = "classifier"
