"""A folder with `train.npz` and `test.npz` -> arrays, or InvalidDataset whatever the files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recall_server.errors import InvalidDataset

FILES = ("train.npz", "test.npz")
Arrays = tuple[tuple[str, ...], NDArray[Any], NDArray[Any]]


def holds_arrays(folder: Path) -> bool:
    """One of the two files is enough: that the other one is missing is for the reader to say."""
    return any((folder / name).is_file() for name in FILES)


def read_arrays(path: Path) -> Arrays:
    """(class names, images, labels) of one file; nothing in it is ever unpickled."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a bad one open
            images, labels, classes = arrays["images"], arrays["labels"], arrays["classes"]
    except Exception as error:  # damaged files make numpy, zipfile, zlib and tokenize raise a dozen kinds of error
        raise InvalidDataset(
            f"{path.name} must be an archive of the arrays images, labels and classes: {type(error).__name__}: {error}"
        ) from error
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise InvalidDataset(
            f"{path.name}: classes must be a list of strings, one a class, not {classes.dtype} {list(classes.shape)}"
        )
    return tuple(str(name) for name in classes), images, labels
