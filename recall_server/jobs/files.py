"""Finished classifiers on the disk: `ID.safetensors`, and its record beside it in `ID.json`.

The record is written last and removed first: a classifier exists exactly as long as its record does. What is being
trained is in a folder of its own, which is emptied at every start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import final

from pydantic import ValidationError

from recall_server.atomic import write_atomically
from recall_server.errors import NotFound, StorageFailed
from recall_server.jobs.records import ClassifierRecord

logger = logging.getLogger(__name__)


@final
class ClassifierFiles:
    """The classifiers in a state folder, which belongs to one server at a time."""

    def __init__(self, state: Path) -> None:
        self._classifiers = state / "classifiers"
        self._work = state / "work"

    def prepare(self) -> None:
        """Make the folders, and drop what a server before this one did not finish. Raises StorageFailed."""
        with _storage("the state folder"):
            shutil.rmtree(self._work, ignore_errors=True)
            self._work.mkdir(parents=True, exist_ok=True)
            self._classifiers.mkdir(parents=True, exist_ok=True)

    def records(self) -> list[ClassifierRecord]:
        """The records of all whole classifiers, oldest first; what is damaged is logged and left alone."""
        found = []
        for path in self._classifiers.glob("*.json"):
            try:
                record = ClassifierRecord.model_validate_json(path.read_bytes())
                size = self.path(record.id).stat().st_size
            except (OSError, ValidationError) as error:
                logger.error("classifier %s cannot be used: %s", path.stem, type(error).__name__)
                continue
            if record.file is None or record.id != path.stem or size != record.file.bytes:
                logger.error("classifier %s cannot be used: its record is of another file", path.stem)
                continue
            found.append(record)
        return sorted(found, key=lambda record: (record.created_at, record.id))

    def path(self, identifier: str) -> Path:
        """Where the finished classifier is. Ids come from the store, never from a caller."""
        return self._classifiers / f"{identifier}.safetensors"

    def read(self, identifier: str) -> bytes:
        """The file's bytes; raises NotFound where somebody took it away."""
        try:
            return self.path(identifier).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"the file of the classifier {identifier} is gone") from error
        except OSError as error:
            raise StorageFailed(f"the file of the classifier {identifier} cannot be read") from error

    def workplace(self, identifier: str) -> Path:
        """The path that the training process saves to; its folder exists and holds nothing else."""
        folder = self._work / identifier
        with _storage("the state folder"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / "classifier.safetensors"

    def commit(self, record: ClassifierRecord) -> None:
        """Move a trained classifier to its place and write its record; StorageFailed leaves neither."""
        try:
            with _storage(f"the classifier {record.id}"):
                os.replace(self.workplace(record.id), self.path(record.id))
            write_atomically(self._record(record.id), record.model_dump_json(indent=1).encode())
        except StorageFailed:
            self.remove(record.id)
            raise
        finally:
            self.discard(record.id)

    def discard(self, identifier: str) -> None:
        """Drop what was being trained."""
        shutil.rmtree(self._work / identifier, ignore_errors=True)

    def remove(self, identifier: str) -> None:
        """Remove a classifier, as far as it is there."""
        with _storage(f"the classifier {identifier}"):
            self._record(identifier).unlink(missing_ok=True)
            self.path(identifier).unlink(missing_ok=True)

    def _record(self, identifier: str) -> Path:
        return self._classifiers / f"{identifier}.json"


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    """OSError -> StorageFailed, without the path."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what} cannot be written: {error.strerror or type(error).__name__}") from error
