"""Specs: the parts of a method as plain data, each with a kind and a `build` method.

The kinds of a part form a union that is discriminated by the field `kind`. Unions are open: a subclass with its own
kind joins the union, wherever it is defined.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recall_server.core.bundle.manifest import first_fault
from recall_server.core.networks import NetworkSpec

Scalar = str | int | float | bool
Count = Annotated[int, Field(ge=1)]
S = TypeVar("S", bound="Spec")
T = TypeVar("T")


class Spec(BaseModel):
    """A part of a method. A subclass with a default for `kind` is a member of the union of its nearest root.

    A root is a direct subclass of Spec; error sentences call it by its `noun`. `streams` says whether a stream of
    tasks, whose samples are seen once, can use the part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    noun: ClassVar[str] = "part"
    kinds: ClassVar[dict[str, type[Spec]]] = {}
    streams: ClassVar[bool] = False
    kind: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if Spec in cls.__bases__:
            cls.kinds = {}
        elif isinstance(kind := cls.model_fields["kind"].default, str):
            cls.kinds[kind] = cls

    def __str__(self) -> str:
        """The kind, and the fields that differ from their defaults."""
        changed = [f"{name}={value}" for name, value in self if value != type(self).model_fields[name].default]
        return f"{self.kind}:{','.join(changed)}" if changed else self.kind

    def make(self, target: Callable[..., T], **others: Any) -> T:
        """An object of the dataclass `target` from `others`, and from the fields of this spec that it has by name."""
        common = inspect.signature(target).parameters.keys() - others.keys()
        return target(**{name: value for name, value in self if name in common}, **others)

    @classmethod
    def of_kind(cls, kind: str) -> type[Self]:
        """The member of this union. Raises ValueError that lists all members."""
        if kind not in cls.kinds:
            raise ValueError(f"there is no {cls.noun} {kind!r}; there are {', '.join(cls.kinds)}")
        return cls.kinds[kind]  # type: ignore[return-value]


def member_of(root: type[S]) -> BeforeValidator:
    """Validates a field of a union: a spec, a dict with its kind, or a kind alone."""

    def validate(value: object) -> object:
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            return value
        try:
            return root.of_kind(str(value.get("kind"))).model_validate(dict(value))
        except ValidationError as error:
            raise ValueError(first_fault(error)) from error

    return BeforeValidator(validate)


def comma_separated(value: object) -> object:
    """A tuple of words from the command line, such as "items,targets"."""
    return tuple(filter(None, value.split(","))) if isinstance(value, str) else value


def flattened(model: BaseModel, leave_out: Callable[[str], bool] = lambda name: False) -> dict[str, Scalar]:
    """All fields by their dotted names as plain values, as in manifests and checkpoints."""
    return dict(_flat(model, "", leave_out))


def _flat(value: object, name: str, leave_out: Callable[[str], bool]) -> Iterator[tuple[str, Scalar]]:
    if name and leave_out(name):
        return
    if isinstance(value, NetworkSpec):
        yield name, str(value)
    elif isinstance(value, (BaseModel, Mapping)):
        for key, inner in value.items() if isinstance(value, Mapping) else value:
            yield from _flat(inner, f"{name}.{key}" if name else key, leave_out)
    elif isinstance(value, tuple):
        yield name, ",".join(map(str, value))
    elif isinstance(value, (str, int, float)):
        yield name, value
    else:
        yield name, str(value)
