"""A folder with one folder of pictures per class: pets/cat/1.jpg, pets/dog/2.png."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

from recall_client.pictures.pillow import readable_suffixes


def class_folders(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Return the pictures of each class by the name of its folder, for `train` and `recall`; both sorted by name.

    Pictures are found at any depth, by suffix: JPEG, PNG and WebP, and BMP, GIF, TIFF, AVIF and HEIF where Pillow
    reads them. Names that begin with a dot are ignored; a UserWarning names every other file that is left out. Class
    names are composed Unicode (NFC), since macOS decomposes the names of folders.

    Raises ValueError for a folder without class folders, a class without pictures, or two folders of the same name,
    and OSError for a folder that cannot be read.
    """
    root, suffixes = Path(folder), readable_suffixes()
    found: dict[str, list[Path]] = {}
    skipped: list[str] = []
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or not entry.is_dir():
            continue
        name = unicodedata.normalize("NFC", entry.name)
        if name in found:
            raise ValueError(f"{root} holds two folders whose names look the same, {name!r}; rename one of them")
        files = list(_files(entry))
        found[name] = [path for path in files if path.suffix.lower() in suffixes]
        skipped += [str(path.relative_to(root)) for path in files if path.suffix.lower() not in suffixes]
        if not found[name]:
            raise ValueError(f"{entry} holds no pictures; their names end in {', '.join(suffixes)}")
    if not found:
        raise ValueError(f"{root} holds no folders; it needs one folder of pictures for each class")
    if skipped:
        more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        listed = ", ".join(skipped[:5]) + more
        warnings.warn(f"{root} holds files that are not pictures, which are left out: {listed}", stacklevel=2)
    return found


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in `folder`, at any depth, sorted by name."""
    suffixes = readable_suffixes()
    return [path for path in _files(folder) if path.suffix.lower() in suffixes]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path
