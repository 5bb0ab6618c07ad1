"""Methods that are written once, as coroutines, for a blocking class and for an asyncio class.

A class that derives from `Blocking` runs such a method to its end and returns the result; a class that derives from
`Asyncio` returns the coroutine to be awaited. This works without an event loop because everything that a method awaits
comes from the object's `Connection` (connection.py): the coroutines of `BlockingConnection` block instead of
suspending, so the first step of the whole method is also its last.

Type checkers see the right signature on each class through the overloads of `__get__`. Shared code calls private
coroutines only: on a class that is neither, a dual method has no type.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """Base of classes whose dual methods block."""


class Asyncio:
    """Base of classes whose dual methods are to be awaited."""


class _Dual:
    def __init__(self, asynchronous: Callable[..., Any], blocking: Callable[..., Any]) -> None:
        self._asynchronous, self._blocking = asynchronous, blocking
        self.__doc__ = asynchronous.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        function = self._blocking if issubclass(owner, Blocking) else self._asynchronous
        return function if instance is None else MethodType(function, instance)


class dual(_Dual, Generic[P, T]):
    """Decorator of a coroutine method; see the module."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        @wraps(method)
        def blocking(*arguments: Any, **options: Any) -> T:
            return run(method(*arguments, **options))

        super().__init__(method, blocking)

    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Asyncio, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return super().__get__(instance, owner)


class dual_iterator(_Dual, Generic[P, T]):
    """The same for an asynchronous generator; a blocking class has a generator instead."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> None:
        @wraps(method)
        def blocking(*arguments: Any, **options: Any) -> Generator[T, None, None]:
            items = method(*arguments, **options)
            try:
                while True:
                    try:
                        item = run(items.__anext__())
                    except StopAsyncIteration:
                        return
                    yield item
            finally:
                run(items.aclose())

        super().__init__(method, blocking)

    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, Generator[T, None, None]]: ...
    @overload
    def __get__(self, instance: Asyncio, owner: type) -> Callable[P, AsyncGenerator[T, None]]: ...
    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Any]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return super().__get__(instance, owner)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and return its result. Raises what it raises."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a blocking call awaited an event loop")
