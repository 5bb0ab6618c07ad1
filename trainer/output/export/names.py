"""Labels are anything that people call a class; the names of folders are not."""

from __future__ import annotations

import re
from collections.abc import Iterable

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # by one file system or another
LONGEST = 200  # bytes: file systems take 255, and a number may follow


def folder_names(labels: Iterable[str]) -> list[str]:
    """A name for each label, as like it as file systems allow, and different from all others even without case."""
    names: list[str] = []
    for label in labels:
        plain = FORBIDDEN.sub("_", label).strip(" .") or "_"
        plain = plain.encode()[:LONGEST].decode(errors="ignore").strip(" .")
        name, number = plain, 2
        while name.casefold() in {taken.casefold() for taken in names}:
            name, number = f"{plain} ({number})", number + 1
        names.append(name)
    return names
