"""Writing a file so that a reader, a crash or a full disk never meets half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from recall_server.errors import StorageFailed


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path`: afterwards it holds all of the new bytes or, after an error, what it held before.

    Missing folders are made. Raises StorageFailed when the disk is full or the place cannot be written to; nothing
    half-written is left behind, not even after Ctrl-C.
    """
    target = Path(path)
    # In the same folder, for a rename is only atomic within one file system; short, for names have a longest length.
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(temporary, data)
        os.replace(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise StorageFailed(f"{target.name} could not be written: {error.strerror or error}") from error
    except BaseException:
        _discard(temporary)
        raise
    _sync_folder(target.parent)


def _write_durably(path: Path, data: bytes) -> None:
    """Create the file and return only when its bytes are on the disk; without this a rename can outrun the data."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the file system can: the file is whole and in place by now either way."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
