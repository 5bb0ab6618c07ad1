"""The state folder: the tasks of unfinished jobs, and finished classifiers.

A file counts only if a row of the job table names it. Each attempt at a job writes a file of its own, so that a server
which was wrongly taken for dead cannot overwrite the classifier that another server made in its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import final

from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.storage_errors import storage_failure
from recall_server.errors import NotFound
from recall_server.jobs.rows.records import ClassifierRecord, JobStatus

SUFFIX = ".safetensors"
MARK = "table"  # the file with the id of the job table that the folder belongs to
IDENTITY = "folder"  # the file with the id of the folder
FORGOTTEN_SECONDS = 3600.0  # the age at which an unfinished or unknown file is removed
NAME = re.compile(r"(?P<identifier>[^.]+)(\.(?P<attempt>\d+))?\.safetensors")

logger = logging.getLogger(__name__)


@final
class ClassifierFiles:
    """The files of a state folder, which all servers of one job table share. No id may come from a caller."""

    def __init__(self, state: Path) -> None:
        self._state, self._classifiers, self._tasks = state, state / "classifiers", state / "tasks"
        self._is_of_this_table = False
        self.identity = ""  # of the folder, once it is prepared

    def prepare(self, table_id: str) -> None:
        """Make the folders for the job table of that id. Raises StorageFailed where they cannot be written to."""
        with _storage("the state folder"):
            for folder in (self._classifiers, self._tasks):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / ".writable").touch()
                (folder / ".writable").unlink(missing_ok=True)
            self._is_of_this_table = _first_text(self._state / MARK, table_id) == table_id
            self.identity = _first_text(self._state / IDENTITY, uuid.uuid4().hex)
        if not self._is_of_this_table:
            logger.warning("the state folder was used with another job table; its classifiers are left alone")

    def can_be_written(self) -> bool:
        """Whether files can still be added to the folders."""
        return all(os.access(folder, os.W_OK | os.X_OK) for folder in (self._classifiers, self._tasks))

    def path(self, identifier: str, attempt: int) -> Path:
        """The path of the classifier of this attempt, which need not exist."""
        number = "" if attempt == 1 else f".{attempt}"
        return self._classifiers / f"{identifier}{number}{SUFFIX}"

    def task_path(self, identifier: str) -> Path:
        """The path of the task of this job, which need not exist."""
        return self._tasks / f"{identifier}{SUFFIX}"

    def save(self, identifier: str, attempt: int, classifier: bytes) -> None:
        """Write a trained classifier atomically. Raises StorageFailed."""
        write_atomically(self.path(identifier, attempt), classifier)

    def has(self, record: ClassifierRecord) -> bool:
        """Whether the file of this record exists and has the recorded size."""
        with contextlib.suppress(OSError):
            size = self.path(record.id, record.attempt).stat().st_size
            return record.file is not None and size == record.file.bytes
        return False

    def read(self, identifier: str, attempt: int) -> bytes:
        """The bytes of a classifier. Raises NotFound if the file is missing."""
        return _read(self.path(identifier, attempt), f"the file of the classifier {identifier}")

    def save_task(self, identifier: str, task: bytes) -> None:
        """Write the task of a job atomically. Raises StorageFailed."""
        write_atomically(self.task_path(identifier), task)

    def task(self, identifier: str) -> bytes:
        """The bytes of a task. Raises NotFound if the file is missing."""
        return _read(self.task_path(identifier), f"the task of the classifier {identifier}")

    def discard_task(self, identifier: str) -> None:
        """Remove the task of a job that has ended."""
        with contextlib.suppress(OSError):  # `tidy` tries again
            self.task_path(identifier).unlink(missing_ok=True)

    def remove(self, identifier: str) -> None:
        """Remove all files of a job. Raises StorageFailed."""
        with _storage(f"the classifier {identifier}"):
            for path in (self.task_path(identifier), *self._classifiers.glob(f"{identifier}.*")):
                path.unlink(missing_ok=True)

    def remove_attempt(self, identifier: str, attempt: int) -> None:
        """Remove the classifier of an attempt that does not count."""
        with contextlib.suppress(OSError):
            self.path(identifier, attempt).unlink(missing_ok=True)

    def tidy(self, attempts: Callable[[Collection[str]], Mapping[str, tuple[JobStatus, int]]]) -> None:
        """Remove what a crash left: tasks of jobs that ended, and classifiers of attempts that do not count.

        `attempts` gives the status and the latest attempt of jobs by id. It is called after the folders were listed, so
        that files which arrive meanwhile are safe. A file of a job that the table does not know is removed once it is
        old, since its row may be about to be written. Such classifiers stay if the folder was used with another table,
        which may know them.
        """
        with _storage("the state folder"):
            classifiers, tasks = (list(folder.glob(f"*{SUFFIX}")) for folder in (self._classifiers, self._tasks))
            halves = [path for folder in (self._classifiers, self._tasks) for path in folder.glob(".*.tmp")]
        known = attempts({path.name.partition(".")[0] for path in (*classifiers, *tasks)})
        stray = [path for path in classifiers if self._is_stray_classifier(path, known)]
        stray += [path for path in tasks if _is_stray_task(path, known)]
        stray += [path for path in halves if _is_forgotten(path)]
        for path in stray:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _is_stray_classifier(self, path: Path, known: Mapping[str, tuple[JobStatus, int]]) -> bool:
        name = NAME.fullmatch(path.name)
        if name is None:
            return False
        if name["identifier"] not in known:
            return self._is_of_this_table and _is_forgotten(path)
        status, attempt = known[name["identifier"]]
        return status not in (JobStatus.RUNNING, JobStatus.SUCCEEDED) or int(name["attempt"] or 1) != attempt


def _first_text(path: Path, text: str) -> str:
    """What the first of all servers wrote to this file: `text`, if there is none yet."""
    draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")
    draft.write_text(text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # whole, or not at all
    finally:
        draft.unlink()
    return path.read_text()


def _is_stray_task(path: Path, known: Mapping[str, tuple[JobStatus, int]]) -> bool:
    return known[path.stem][0].is_terminal if path.stem in known else _is_forgotten(path)


def _is_forgotten(path: Path) -> bool:
    """By the clock of the file system. The clock of this machine may be wrong by hours, and others share the folder."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=path.parent) as fresh:
        return os.fstat(fresh.fileno()).st_mtime - path.stat().st_mtime > FORGOTTEN_SECONDS
    return False


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{what} is gone") from error
    except OSError as error:
        raise storage_failure(f"{what} cannot be read", error) from error


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    """Turn an OSError into StorageFailed, without the path."""
    try:
        yield
    except OSError as error:
        raise storage_failure(f"{what} cannot be written", error) from error
