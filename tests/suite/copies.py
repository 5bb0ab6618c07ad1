"""Ways in which a value reaches another process or is copied, and the modules whose values must survive them."""

from __future__ import annotations

import copy
import importlib
import pickle  # noqa: TID251  (what other processes send and receive is the subject here)
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "oldest protocol": lambda value: pickle.loads(pickle.dumps(value, protocol=0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def modules(package: ModuleType, *skipped: str) -> Iterator[ModuleType]:
    """Every module of the package, except those that start when they are imported and those with a `skipped` name."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not any(part in found.name for part in ("__main__", *skipped)):
            yield importlib.import_module(found.name)
