"""Overrides `section.field=value` of the command line, which change fields of nested models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recall_server.core.bundle.manifest import first_fault
from recall_server.core.networks import NetworkSpec
from trainer.methods.specs.spec import Spec

Model = TypeVar("Model", bound=BaseModel)


def overridden(model: Model, overrides: Iterable[str], *, fixed: Collection[str] = ()) -> Model:
    """The model with each `section.field=value` applied.

    A section without a field takes a kind: `start=noise` means `start.kind=noise`. A new kind begins with its defaults.
    `fixed` are fields that cannot be set. Raises ValueError, with one sentence that names the alternatives.
    """
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or path in fixed:
            raise ValueError(f"{override!r} is not field=value with one of the fields {_names(model, fixed)}")
        try:
            model = _with(model, path.split("."), value)
        except ValueError as error:
            raise ValueError(f"{override!r}: {error}") from error
    return _validated(model, "")


def given(**values: object) -> list[str]:
    """`field=value` of all options that were given; two underscores stand for a dot."""
    return [f"{field.replace('__', '.')}={value}" for field, value in values.items() if value is not None]


def _with(model: Model, path: list[str], value: str) -> Model:
    """A copy with one field changed. It is not validated yet, because other overrides may make it valid."""
    name, *rest = path
    if name not in type(model).model_fields:
        raise ValueError(_refusal(model, name))
    inside = getattr(model, name)
    changed: Any = value
    if isinstance(inside, NetworkSpec) and not rest:
        changed = _network(value)
    elif _is_section(inside):
        if isinstance(inside, Spec) and rest in ([], ["kind"]):
            changed = inside if value == inside.kind else inside.of_kind(value)()  # type: ignore[call-arg]
        elif rest:
            changed = _with(inside, rest, value)
        else:
            raise ValueError(f"set a field of {name}, one of {_names(inside)}")
    elif rest and isinstance(inside, Mapping):
        changed = {**inside, ".".join(rest): value}
    elif rest:
        raise ValueError(f"{name} has no fields of its own")
    elif isinstance(inside, tuple):
        changed = tuple(filter(None, value.split(",")))
    return model.model_copy(update={name: changed})


def _validated(model: Model, place: str) -> Model:
    """The model, validated from the innermost sections outwards. Raises ValueError that names the faulty field."""
    fields = {name: _validated(value, f"{place}{name}.") if _is_section(value) else value for name, value in model}
    try:
        return type(model).model_validate(fields)
    except ValidationError as error:
        raise ValueError(f"{place if error.errors()[0]['loc'] else ''}{first_fault(error)}") from error


def _refusal(model: BaseModel, name: str) -> str:
    inner = [f"{key}.{name}" for key, value in model if _is_section(value) and name in type(value).model_fields]
    hint = f"; did you mean {' or '.join(inner)}?" if inner else ""
    if isinstance(model, Spec):
        return f"the {model.noun} {model.kind} has no field {name!r}; it has {_names(model)}{hint}"
    return f"there is no field {name!r}; there are {_names(model)}{hint}"


def _names(model: BaseModel, fixed: Collection[str] = ()) -> str:
    return ", ".join(name for name in type(model).model_fields if name not in fixed)


def _network(text: str) -> NetworkSpec:
    try:
        return NetworkSpec.parse(text)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error


def _is_section(value: object) -> bool:
    return isinstance(value, BaseModel) and not isinstance(value, NetworkSpec)
