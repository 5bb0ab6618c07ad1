"""The state folder: tasks that wait or are being trained, and finished classifiers.

The table says what a file is worth: without a row that names it, it is none. Each attempt at a job writes a file of
its own, so that a server which was taken for dead and is not cannot touch what another one made in its place.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import final

from recall_server.core.io.atomic import write_atomically
from recall_server.errors import NotFound, StorageFailed
from recall_server.jobs.rows.records import ClassifierRecord, JobStatus

SUFFIX = ".safetensors"
MARK = "table"  # the file with the id of the job table that the folder belongs to
FORGOTTEN_SECONDS = 3600.0  # after which a file that nobody came to finish or to claim is removed
NAME = re.compile(r"(?P<identifier>[^.]+)(\.(?P<attempt>\d+))?\.safetensors")

logger = logging.getLogger(__name__)


@final
class ClassifierFiles:
    """The files of a state folder, which all servers of one job table share. Ids come from the table, not callers."""

    def __init__(self, state: Path) -> None:
        self._state, self._classifiers, self._tasks = state, state / "classifiers", state / "tasks"
        self._is_of_this_table = False

    def prepare(self, table_id: str) -> None:
        """Make the folders for the job table of that id. Raises StorageFailed where they cannot be written to."""
        with _storage("the state folder"):
            for folder in (self._classifiers, self._tasks):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / ".writable").touch()
                (folder / ".writable").unlink(missing_ok=True)
            self._is_of_this_table = self._claim_for(table_id)
        if not self._is_of_this_table:
            logger.warning("the state folder was used with another job table; its classifiers are left alone")

    def path(self, identifier: str, attempt: int) -> Path:
        """Where the classifier of that attempt is, or would be."""
        number = "" if attempt == 1 else f".{attempt}"
        return self._classifiers / f"{identifier}{number}{SUFFIX}"

    def task_path(self, identifier: str) -> Path:
        """Where the task of that job is, or would be."""
        return self._tasks / f"{identifier}{SUFFIX}"

    def save(self, identifier: str, attempt: int, classifier: bytes) -> None:
        """Keep a trained classifier, whole or not at all; raises StorageFailed."""
        write_atomically(self.path(identifier, attempt), classifier)

    def has(self, record: ClassifierRecord) -> bool:
        """Whether the file that the record speaks of is there, as far as its size tells."""
        with contextlib.suppress(OSError):
            size = self.path(record.id, record.attempt).stat().st_size
            return record.file is not None and size == record.file.bytes
        return False

    def read(self, identifier: str, attempt: int) -> bytes:
        """The classifier's bytes; raises NotFound where somebody took the file away."""
        return _read(self.path(identifier, attempt), f"the file of the classifier {identifier}")

    def save_task(self, identifier: str, task: bytes) -> None:
        """Keep a task until its job has ended; raises StorageFailed."""
        write_atomically(self.task_path(identifier), task)

    def task(self, identifier: str) -> bytes:
        """The task's bytes; raises NotFound where somebody took the file away."""
        return _read(self.task_path(identifier), f"the task of the classifier {identifier}")

    def discard_task(self, identifier: str) -> None:
        """The job has ended: what it was to be trained from is not kept."""
        with contextlib.suppress(OSError):  # `tidy` will come back to it
            self.task_path(identifier).unlink(missing_ok=True)

    def remove(self, identifier: str) -> None:
        """Remove all that belongs to a job, as far as it is there; raises StorageFailed."""
        with _storage(f"the classifier {identifier}"):
            for path in (self.task_path(identifier), *self._classifiers.glob(f"{identifier}.*")):
                path.unlink(missing_ok=True)

    def remove_attempt(self, identifier: str, attempt: int) -> None:
        """Remove what one attempt made, for it does not count."""
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

    def _claim_for(self, table_id: str) -> bool:
        """Whether this table is the first that the folder was used with; the first one leaves its id there."""
        mark = self._state / MARK
        with contextlib.suppress(FileExistsError), mark.open("x") as file:
            file.write(table_id)
        return mark.read_text() == table_id

    def _is_stray_classifier(self, path: Path, known: Mapping[str, tuple[JobStatus, int]]) -> bool:
        name = NAME.fullmatch(path.name)
        if name is None:
            return False
        if name["identifier"] not in known:
            return self._is_of_this_table and _is_forgotten(path)
        status, attempt = known[name["identifier"]]
        return status not in (JobStatus.RUNNING, JobStatus.SUCCEEDED) or int(name["attempt"] or 1) != attempt


def _is_stray_task(path: Path, known: Mapping[str, tuple[JobStatus, int]]) -> bool:
    return known[path.stem][0].is_terminal if path.stem in known else _is_forgotten(path)


def _is_forgotten(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS
    return False


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{what} is gone") from error
    except OSError as error:
        raise StorageFailed(f"{what} cannot be read") from error


@contextlib.contextmanager
def _storage(what: str) -> Iterator[None]:
    """OSError -> StorageFailed, without the path."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{what} cannot be written: {error.strerror or type(error).__name__}") from error
