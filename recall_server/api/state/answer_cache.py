"""Answers to recalls, kept by what they are a function of: the bundles' digests, the query and the format.

A recall is a pure function, so that an answer once made is right for as long as the same bundles are loaded. The key
holds the digests of all of them, and not only of those asked: a new bundle can make a label ambiguous.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

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
    """The answers asked for most lately, in at most so many bytes. Used on the event loop only, so without locks."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> Answer | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Hashable, answer: Answer) -> None:
        """Keep an answer and drop the oldest that no longer fit; one larger than a quarter of it all is not kept."""
        size = _size(answer)
        if size > self._max_bytes // 4:
            return
        self._forget(key)
        self._answers[key] = answer
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Hashable) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self.bytes -= _size(answer)


def _size(answer: Answer) -> int:
    return len(answer.content) + OVERHEAD
