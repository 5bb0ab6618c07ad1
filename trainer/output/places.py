"""Names and places of bundles, checked before any picture is read."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from recall_server.core.bundle.manifest import FileName

SUFFIX: Final = ".safetensors"
LONGEST: Final = 60  # characters of a name that is derived
RULE: Final = "up to 100 letters, digits, '.', '_' and '-' of ASCII, the first a letter or digit"

_file_name: TypeAdapter[str] = TypeAdapter(FileName)


def check_name(output: Path, option: str = "--output") -> None:
    """Raise ValueError for an output that is not named as a bundle: NAME.safetensors."""
    if output.suffix != SUFFIX:
        raise ValueError(f"{option} must end in {SUFFIX}, not {output.name!r}")
    if not is_name(output.stem):
        advice = f"such as {derived_name(output.stem)!r}"
        raise ValueError(f"a bundle cannot be called {output.stem!r}; a name has {RULE}, {advice}")


def is_name(name: str) -> bool:
    """Whether a bundle can have this name."""
    try:
        _file_name.validate_python(name)
    except ValidationError:
        return False
    return True


def derived_name(text: str) -> str:
    """A name for a bundle that resembles the text: "My Pictures" -> "my-pictures"; "memory" where nothing is left."""
    if is_name(text):
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9._]+", "-", plain.lower()).strip("-._")[:LONGEST].rstrip("-._") or "memory"


def check_place(path: Path, option: str = "--output", *, overwrite: bool = True) -> None:
    """Raise ValueError if no file can be written there, or if there is one that must not be replaced.

    Nothing is written, and no folder is made.
    """
    if path.is_dir():
        raise ValueError(f"{option} must name a file, but {path.name} is a folder")
    if path.exists() and not overwrite:
        raise ValueError(f"{path.name} already exists; choose another {option}, or replace it with --overwrite")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: the folder {folder} is not writable")
