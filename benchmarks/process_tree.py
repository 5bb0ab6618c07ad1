"""The processes that a process has started, as Linux lists them under /proc: all there are to be gone once it is."""

from __future__ import annotations

import contextlib
from pathlib import Path

LISTED = Path("/proc/self/task").is_dir()


def children(process: int) -> list[int]:
    """The processes that this one has started and that have not ended; none where the system does not list them."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in tasks for child in bytes_of(path).split()]


def descendants(process: int) -> list[int]:
    """Its children, theirs, and so on."""
    return [each for child in children(process) for each in [child, *descendants(child)]]


def is_running(process: int) -> bool:
    """Neither gone nor a zombie that nobody has waited for yet."""
    return bytes_of(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


def bytes_of(path: Path) -> bytes:
    """What is in a file; nothing where it is gone or cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""
