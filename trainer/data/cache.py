"""Where data sets and features are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def kept_in(variable: str) -> Path:
    """The folder that an environment variable names, by default one in the user's home.

    Raises ValueError for a user without a home.
    """
    if named := os.environ.get(variable):
        return Path(named)
    try:
        return Path.home() / ".cache" / "memory-recall"
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"this user has no home: let {variable} name a folder to keep files in") from error
