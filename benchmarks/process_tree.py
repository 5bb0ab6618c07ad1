"""The descendants of a process, as Linux lists them under /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

LISTED = Path("/proc/self/task").is_dir()


def children(process: int) -> list[int]:
    """The running children of a process; empty on systems without /proc."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for path in tasks for child in bytes_of(path).split()]


def descendants(process: int) -> list[int]:
    """All descendants of a process."""
    return [each for child in children(process) for each in [child, *descendants(child)]]


def is_running(process: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return bytes_of(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


def bytes_of(path: Path) -> bytes:
    """The content of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""
