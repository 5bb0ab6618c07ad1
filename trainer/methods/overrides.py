"""`field=value` on the command line: how a named point of plain data becomes another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recall_server.core.bundle.manifest import first_fault
from recall_server.core.networks import NetworkSpec

NETWORKS = frozenset({"network", "encoder"})  # fields that hold a network, written as `convnet:filters=64`

Model = TypeVar("Model", bound=BaseModel)


def overridden(
    model: type[Model], fields: Mapping[str, Any], overrides: Iterable[str], *, fixed: Collection[str]
) -> Model:
    """`model` of these fields, with each `field=value` or `retraining.field=value` in its place.

    `fixed` are the fields that cannot be set. ValueError with one sentence on anything that does not fit.
    """
    values = {name: dict(value) if name == "retraining" else value for name, value in fields.items()}
    try:
        for override in overrides:
            _override(values, override, fixed)
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error


def given(**values: object) -> list[str]:
    """`field=value` of every option that was given."""
    return [f"{field}={value}" for field, value in values.items() if value is not None]


def _override(fields: dict[str, Any], override: str, fixed: Collection[str]) -> None:
    key, equals, value = override.partition("=")
    section, dot, inner = key.partition(".")
    target, field = (fields[section], inner) if dot and section == "retraining" else (fields, key)
    if not equals or field not in target or field in fixed:
        known = ", ".join(name for name in target if name not in fixed)
        raise ValueError(f"{override!r} is not field=value with one of the fields {known}")
    target[field] = NetworkSpec.parse(value).model_dump() if field in NETWORKS else value
