"""A cache of answers. The key of a recall consists of the bundles' digests, the query and the format.

A recall is a pure function of its key. The key has the digests of all loaded bundles, not only of those recalled from,
because a new bundle can make a label ambiguous.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from recall_server.service import BoundedCache

OVERHEAD = 500  # bytes of an entry besides its content, approximately


@final
@dataclass(frozen=True)
class Answer:
    """The bytes of an answer, its media type and its strong ETag, a digest of the bytes."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Answer:
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@final
class AnswerCache:
    """The most recently used answers, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._answers: BoundedCache[Answer] = BoundedCache(max_bytes)

    @property
    def bytes(self) -> int:
        """The size of all answers that are kept."""
        return self._answers.bytes

    def get(self, key: Hashable) -> Answer | None:
        return self._answers.get(key)

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer, unless it takes more than a quarter of the cache."""
        self._answers.put(key, answer, len(answer.content) + OVERHEAD)

    def drop_unused(self, seconds: float) -> None:
        """Drop answers that nobody has asked for in so long."""
        self._answers.drop_unused(seconds)
