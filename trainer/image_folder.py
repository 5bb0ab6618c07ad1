"""A folder of class folders -> arrays: every picture decoded, turned upright and brought to one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recall_server.errors import InvalidDataset

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
LARGEST_SIZE = 256


def read_image_folder(folder: Path, size: int | None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """FOLDER/class name/picture.* -> (classes, images uint8 [N, size, size, C], labels int64 [N]).

    Pictures are cropped to their central square and scaled. Without a size, that of the first picture counts (its
    shorter side, at most 256). Grey where every picture is grey, else colour. Raises InvalidDataset naming the first
    picture that cannot be read.
    """
    class_folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    paths = {path.name: sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) for path in class_folders}
    classes = tuple(name for name, members in paths.items() if members)
    if len(classes) < 2:
        raise InvalidDataset(
            f"{folder.name} has pictures in {len(classes)} class folder{'s' * (len(classes) != 1)}; "
            "it must hold two or more folders, each named as a class and filled with pictures"
        )
    pictures = [_read(path) for name in classes for path in paths[name]]
    size = size or min(min(pictures[0].size), LARGEST_SIZE)
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    images = np.stack([np.asarray(ImageOps.fit(picture.convert(mode), (size, size))) for picture in pictures])
    labels = np.repeat(np.arange(len(classes)), [len(paths[name]) for name in classes])
    return classes, images if mode == "RGB" else images[..., None], labels


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            return upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise InvalidDataset(f"{path.parent.name}/{path.name} is not a readable picture: {error}") from error
