"""Writes an export folder atomically; it never replaces anything but an earlier export."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recall_server.errors import StorageFailed

DESCRIPTION = "export.json"


def write_folder(
    output: Path, write: Callable[[Path], None], description: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Let `write` fill a new folder, add the description as DESCRIPTION, and move the folder to `output`.

    Raises ValueError if `output` is not empty, unless it is an export and `overwrite` is set, and StorageFailed if it
    cannot be written. After an error, the previous content remains.
    """
    _check(output, overwrite)
    target = output.resolve()
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        (temporary / DESCRIPTION).write_text(f"{json.dumps(description, indent=1, ensure_ascii=False)}\n")
        _replace(temporary, target)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError if the disk is full
        reason = error.strerror if isinstance(error, OSError) else None
        raise StorageFailed(f"{output.name} could not be written: {reason or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output must name a folder, but {output.name} is a file")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not (output / DESCRIPTION).is_file():
        raise ValueError(f"{output.name} is not an empty folder or an export; choose another folder as --output")
    if not overwrite:
        raise ValueError(f"{output.name} has an export; choose another --output, or replace it with --overwrite")


def _replace(made: Path, target: Path) -> None:
    """Move the new folder to `target`. The old one is renamed first, because a rename cannot replace a folder."""
    aside = None
    if target.exists():
        aside = target.parent / f".{secrets.token_hex(8)}.tmp"
        target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.rename(target)
        raise
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
