"""Answers to recalls, kept by what they are a function of: the bundles' digests, the query and the format.

A recall is a pure function, so that an answer once made is right for as long as the same bundles are loaded. The key
holds the digests of all of them, and not only of those asked: a new bundle can make a label ambiguous.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from recall_server.service import BoundedCache

OVERHEAD = 500  # bytes: about what an entry takes beside its content


@final
@dataclass(frozen=True)
class Answer:
    """The bytes of an answer, its media type and its strong ETag, which is a digest of the bytes themselves."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Answer:
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@final
class AnswerCache:
    """The answers that were used last, in at most `max_bytes`."""

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
