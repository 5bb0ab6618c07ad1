"""Reads a data set from a folder with `train.npz` and `test.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recall_server.errors import InvalidDataset

FILES = ("train.npz", "test.npz")
Arrays = tuple[tuple[str, ...], NDArray[Any], NDArray[Any]]


def holds_arrays(folder: Path) -> bool:
    """Whether the folder has one of the two files; `read_arrays` reports the other one if it is missing."""
    return any((folder / name).is_file() for name in FILES)


def read_arrays(path: Path) -> Arrays:
    """(class names, images, labels) of one file, without unpickling. Raises InvalidDataset for a bad file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a bad file open
            images, labels, classes = arrays["images"], arrays["labels"], arrays["classes"]
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise a dozen kinds of error for damaged files
        raise InvalidDataset(
            f"{path.name} must be an archive of the arrays images, labels and classes: {type(error).__name__}: {error}"
        ) from error
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise InvalidDataset(
            f"{path.name}: classes must be one string per class, not {classes.dtype} {list(classes.shape)}"
        )
    return tuple(str(name) for name in classes), images, labels
