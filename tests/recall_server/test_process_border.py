"""Every exception of the server and of the trainer survives pickling and copying, with what it carries."""

from __future__ import annotations

import inspect

import pytest

import recall_server
import trainer
from tests.suite.copies import WAYS, modules

ARGUMENTS = {
    "str": "a",
    "int": 3,
    "float": 2.5,
    "list": ["a", "b"],
    "Sequence": ("a", "b"),
    "tuple": ("a", "b"),
    "Mapping": {"a": "b"},
}


def exceptions() -> list[type[Exception]]:
    found = {
        value
        for package in (recall_server, trainer)
        for module in modules(package, "triton")
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == module.__name__
    }
    return sorted(found, key=lambda each: f"{each.__module__}.{each.__qualname__}")


def example(kind: type[Exception]) -> Exception:
    """One with all arguments given."""
    if kind.__init__ is Exception.__init__:
        return kind("a sentence")
    given, named = [], {}
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        word = str(parameter.annotation).split("[")[0].split(" ")[0].split(".")[-1]
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = ARGUMENTS[word]
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            given.append(ARGUMENTS[word])
        else:
            given.append("a sentence")
    return kind(*given, **named)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_exceptions_survive_with_all_that_they_carry(kind: type[Exception], way: str) -> None:
    before = example(kind)
    after = WAYS[way](before)
    assert type(after) is kind
    assert str(after) == str(before)
    assert vars(after) == vars(before)
