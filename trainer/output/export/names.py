"""Turns labels, which may be any text, into valid folder names."""

from __future__ import annotations

import re
from collections.abc import Iterable

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # in some file system
LONGEST = 200  # bytes: file systems allow 255, and a number may follow


def folder_names(labels: Iterable[str]) -> list[str]:
    """A folder name for each label, as similar as file systems allow; names are distinct even ignoring case."""
    names: list[str] = []
    for label in labels:
        plain = FORBIDDEN.sub("_", label).strip(" .") or "_"
        plain = plain.encode()[:LONGEST].decode(errors="ignore").strip(" .")
        name, number = plain, 2
        while name.casefold() in {taken.casefold() for taken in names}:
            name, number = f"{plain} ({number})", number + 1
        names.append(name)
    return names
