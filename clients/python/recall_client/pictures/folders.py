"""A folder of class folders, as people keep pictures: pets/cat/1.jpg, pets/dog/2.png."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def class_folders(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """The pictures of each folder within `folder`, by its name; both in order of name, for `train` and `recall`.

    Pictures are what ends in .jpg, .jpeg, .png or .webp, at any depth; what begins with a dot is left out. Raises
    ValueError for a folder without class folders or a class without pictures, OSError for what cannot be read.
    """
    root = Path(folder)
    found = {each.name: _pictures(each) for each in sorted(root.iterdir()) if each.is_dir() and not _hidden(each)}
    if not found:
        raise ValueError(f"{root} holds no folders; it needs one for each class, with pictures of that class in it")
    if empty := [name for name, pictures in found.items() if not pictures]:
        raise ValueError(f"{root / empty[0]} holds no pictures that end in {', '.join(sorted(SUFFIXES))}")
    return found


def _pictures(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(map(_hidden, map(Path, path.relative_to(folder).parts)))
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            found.append(path)
    return found


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
