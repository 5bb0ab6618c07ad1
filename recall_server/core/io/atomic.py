"""Atomic and durable writing of files."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from recall_server.core.io.storage_errors import storage_failure


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`. Afterwards the file has all of the new bytes or, after an error, its old content.

    Missing folders are created. A symbolic link stays, and the file that it points to is written. Raises StorageFailed
    if the disk is full or the path is not writable. No partial file is left behind, not even after Ctrl-C.
    """
    target = Path(os.path.realpath(path))
    # In the same folder, because a rename is atomic only within one file system; short, because names are limited.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(temporary, data)
        os.replace(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise storage_failure(f"{target.name} could not be written", error) from error
    except BaseException:
        _discard(temporary)
        raise
    _sync_folder(target.parent)


def _write_durably(path: Path, data: bytes) -> None:
    """Create the file and return when its bytes are on the disk; otherwise the rename could become durable first."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename durable if the file system supports it; the file is complete and in place in any case."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
