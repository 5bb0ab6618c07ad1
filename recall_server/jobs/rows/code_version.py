"""The version of the code that trains: a digest of its source, so that a change to it makes a new version."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
# Every room of the shared core that training imports, and the module that starts it.
SOURCES = (
    "core/classifier",
    "core/io",
    "core/memory",
    "core/networks",
    "core/preprocessing",
    "core/training",
    "jobs/rows/task.py",
)
SUFFIXES = frozenset({".py", ".cpp", ".hpp"})


@functools.cache
def training_code_version() -> str:
    """The SHA-256 of the sources in SOURCES, by name and content. It is computed once, and imports none of them."""
    return digest_of_sources(PACKAGE)


def digest_of_sources(package: Path) -> str:
    """The same for the copy of this package in the folder `package`."""
    digest = hashlib.sha256()
    for path in sorted(_sources(package)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _sources(package: Path) -> Iterator[Path]:
    for name in SOURCES:
        source = package / name
        yield from [source] if source.is_file() else (path for path in source.rglob("*") if path.suffix in SUFFIXES)
