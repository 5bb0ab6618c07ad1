"""Where records live while the server runs. Every change names the states it may start from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import Protocol, final

from recall_server.errors import NotFound
from recall_server.jobs.records import ClassifierRecord, JobStatus

Change = Callable[[ClassifierRecord], ClassifierRecord]


class JobStore(Protocol):
    """A table of records, newest last. Safe to use from several threads."""

    def add(self, record: ClassifierRecord) -> None:
        """Insert a record whose id is new."""

    def get(self, identifier: str) -> ClassifierRecord:
        """The record; raises NotFound."""

    def newest(self, limit: int) -> list[ClassifierRecord]:
        """At most `limit` records, newest first."""

    def change(self, identifier: str, allowed: Collection[JobStatus], change: Change) -> ClassifierRecord | None:
        """Compare and set: apply `change` if the status is one of `allowed`, and give back the new record.

        None, and nothing changed, where it is in another state or gone: somebody else was faster.
        """

    def remove(self, identifier: str) -> ClassifierRecord:
        """Take the record out and give it back; raises NotFound."""


@final
class MemoryJobStore:
    """Records in memory, gone with the process."""

    def __init__(self, records: Iterable[ClassifierRecord] = ()) -> None:
        self._lock = threading.Lock()
        self._records = {record.id: record for record in records}

    def add(self, record: ClassifierRecord) -> None:
        with self._lock:
            if record.id in self._records:
                raise ValueError(f"there is a record {record.id} already")
            self._records[record.id] = record

    def get(self, identifier: str) -> ClassifierRecord:
        with self._lock:
            return self._found(identifier)

    def newest(self, limit: int) -> list[ClassifierRecord]:
        with self._lock:
            return list(self._records.values())[: -limit - 1 : -1]

    def change(self, identifier: str, allowed: Collection[JobStatus], change: Change) -> ClassifierRecord | None:
        with self._lock:
            record = self._records.get(identifier)
            if record is None or record.status not in allowed:
                return None
            self._records[identifier] = changed = change(record)
            return changed

    def remove(self, identifier: str) -> ClassifierRecord:
        with self._lock:
            record = self._found(identifier)
            del self._records[identifier]
            return record

    def _found(self, identifier: str) -> ClassifierRecord:
        if identifier not in self._records:
            raise NotFound(f"no classifier has the id {identifier!r}")
        return self._records[identifier]
