"""The named methods, collected from their families (`trainer/methods/families`): short compositions with citations."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

from trainer.methods.families import (
    addressed_bases,
    decoded,
    distribution_matching,
    gradient_matching,
    kernel_regression,
    pretrained,
    remember_the_past,
    selections,
    trajectory_matching,
    unrolled,
)
from trainer.methods.method import Method
from trainer.methods.overrides import overridden

FAMILIES = (
    remember_the_past,
    selections,
    unrolled,
    gradient_matching,
    distribution_matching,
    trajectory_matching,
    kernel_regression,
    decoded,
    addressed_bases,
    pretrained,
)

METHODS: dict[str, Callable[[], Method]] = {
    method.__name__.replace("_", "-"): method for family in FAMILIES for method in family.METHODS
}


def named(name: str) -> Method:
    """A method by its name, or the one that a Python file defines as `method()`.

    The file runs as part of this program, so it can define memories and objectives too. Raises ValueError, with the
    known methods or with what the file lacks.
    """
    if name.endswith(".py"):
        return _of_file(Path(name))
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(METHODS)}, or a file NAME.py")
    return METHODS[name]()


def compose(method: str | Method, overrides: Iterable[str] = ()) -> Method:
    """A method, or one by name, with `section.field=value` overrides. Raises ValueError for invalid ones."""
    start = named(method) if isinstance(method, str) else method
    return overridden(start, overrides, fixed=("name", "citation"))


def summary(name: str) -> str:
    """The first line of a named method's documentation."""
    return inspect.getdoc(METHODS[name]).split("\n")[0]  # type: ignore[union-attr]


def _of_file(path: Path) -> Method:
    if not path.is_file():
        raise ValueError(f"there is no method file {path}")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None, "the name ends in .py"
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    method = getattr(module, "method", None)
    made = method() if callable(method) else None
    if not isinstance(made, Method):
        raise ValueError(f"{path.name} defines no function method() that returns a Method")
    return made
