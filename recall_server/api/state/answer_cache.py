"""Caches of answers, and of parts of answers.

The key of a recall consists of the bundles' digests, the query and the format. A recall is a pure function of its key.
The key has the digests of all loaded bundles, not only of those recalled from, because a new bundle can make a label
ambiguous.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from recall_server.jobs.rows.records import ClassifierRecord, Listed
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


@final
class WrittenRecords:
    """The JSON of records on pages of classifiers, at most `max_bytes` of it. Each revision is written once."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: BoundedCache[str] = BoundedCache(max_bytes)

    def of(
        self,
        entries: Sequence[Listed],
        read: Callable[[Iterable[Listed]], list[ClassifierRecord]],
        write: Callable[[ClassifierRecord], str],
    ) -> Iterator[str]:
        """Yield the JSON of the entries. `read` and `write` are called for those that are not known."""
        kept = {entry.id: self._kept.get(entry) for entry in entries}
        records = {record.id: record for record in read([entry for entry in entries if kept[entry.id] is None])}
        for entry in entries:
            written = kept[entry.id]
            if written is None and entry.id in records:
                written = write(records[entry.id])
                self._kept.put(entry, written, sys.getsizeof(written) + OVERHEAD)
            if written is not None:
                yield written

    def drop_unused(self, seconds: float) -> None:
        """Drop what nobody has asked for in so long."""
        self._kept.drop_unused(seconds)
