"""What the verbs of the service take and return."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from recall_server.jobs.rows.records import ClassifierRecord, IdempotencyKey
from recall_server.library.precedence import Space
from recall_server.recall import PerLabel, Picture

DownloadFormat = Literal["safetensors", "onnx"]


@final
@dataclass(frozen=True)
class RecallOptions:
    """The bundle in which names are looked up, the number of images for each query, and the seed that draws them.

    With `strict`, a name that several bundles know is refused; with `space`, it is taken from that space if it can be.
    """

    bundle: str | None = None
    per_label: PerLabel = None
    seed: int | None = None
    strict: bool = False
    space: Space | None = None


@final
@dataclass(frozen=True)
class Caller:
    """The caller of a training, and the key under which the caller may repeat the request."""

    idempotency_key: str | None = None
    caller: str | None = None

    def key(self, pictures: Sequence[Picture] = (), **parameters: object) -> IdempotencyKey | None:
        """The key together with a digest of the request; None if the caller sent no key.

        The digest covers what the caller sent, not what it stands for at the moment, so that a repeated request does
        not depend on the bundles that are loaded then.
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
    """An accepted training, and the number of images that it will compute: 0 if it is shared or was known."""

    record: ClassifierRecord
    work: int
