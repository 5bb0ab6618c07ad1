"""`section.field=value` on the command line: how plain data of nested models becomes other plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from recall_server.core.bundle.manifest import first_fault
from recall_server.core.networks import NetworkSpec
from trainer.methods.specs.spec import Spec

Model = TypeVar("Model", bound=BaseModel)


def overridden(model: Model, overrides: Iterable[str], *, fixed: Collection[str] = ()) -> Model:
    """The model with each `section.field=value` in its place.

    A section alone takes a kind: `start=noise` is `start.kind=noise`. Another kind begins with its own defaults.
    `fixed` are fields that cannot be set. ValueError with one sentence on what does not fit, naming what would.
    """
    section = _Section.of(model)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or path in fixed:
            raise ValueError(f"{override!r} is not field=value with one of the fields {section.names(fixed)}")
        section.set(path.split("."), value, override)
    built: Model = section.build("")
    return built


def given(**values: object) -> list[str]:
    """`field=value` of every option that was given; two underscores stand for a dot."""
    return [f"{field.replace('__', '.')}={value}" for field, value in values.items() if value is not None]


class _Section:
    """A model's fields, not validated until all overrides are in."""

    def __init__(self, model: type[BaseModel], fields: Mapping[str, Any]) -> None:
        self.model = model
        self.fields = {name: _Section.of(value) if _is_section(value) else value for name, value in fields.items()}

    @classmethod
    def of(cls, model: BaseModel) -> _Section:
        return cls(type(model), dict(model))

    def names(self, fixed: Collection[str] = ()) -> str:
        return ", ".join(name for name in self.fields if name not in fixed)

    def set(self, path: list[str], value: str, override: str) -> None:
        name, *rest = path
        if name not in self.fields:
            raise ValueError(self._refusal(name, override))
        inside = self.fields[name]
        if isinstance(inside, _Section):
            if rest not in ([], ["kind"]):
                inside.set(rest, value, override)
            elif issubclass(inside.model, Spec):
                self.fields[name] = inside.of_kind(value)
            else:
                raise ValueError(f"{override!r}: set a field of {name}, one of {inside.names()}")
        elif rest and isinstance(inside, Mapping):
            self.fields[name] = {**inside, ".".join(rest): value}
        elif rest:
            raise ValueError(f"{override!r}: {name} has no fields of its own")
        elif name == "kind" and issubclass(self.model, Spec):
            raise ValueError(f"{override!r}: the kind of this method is its own")
        else:
            self.fields[name] = _network(value, override) if isinstance(inside, NetworkSpec) else value

    def of_kind(self, kind: str) -> _Section:
        """This section, or one of another kind at its defaults."""
        if kind == self.fields["kind"]:
            return self
        assert issubclass(self.model, Spec), "only specs have kinds"
        return _Section.of(self.model.of_kind(kind)())  # type: ignore[call-arg]

    def build(self, place: str) -> Any:
        """The validated model; ValueError that names the field at fault."""
        fields = {
            name: value.build(f"{place}{name}.") if isinstance(value, _Section) else value
            for name, value in self.fields.items()
        }
        try:
            return self.model.model_validate(fields)
        except ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(f"{place if fault['loc'] else ''}{first_fault(error)}") from error

    def _refusal(self, name: str, override: str) -> str:
        what = f"the {self.model.noun} {self.fields['kind']}" if issubclass(self.model, Spec) else "there"
        inner = [
            f"{key}.{name}"
            for key, value in self.fields.items()
            if isinstance(value, _Section) and name in value.fields
        ]
        hint = f"; did you mean {' or '.join(inner)}?" if inner else ""
        if what == "there":
            return f"{override!r}: there is no field {name!r}; there are {self.names()}{hint}"
        return f"{override!r}: {what} has no field {name!r}; it has {self.names()}{hint}"


def _network(text: str, override: str) -> NetworkSpec:
    try:
        return NetworkSpec.parse(text)
    except ValidationError as error:
        raise ValueError(f"{override!r}: {first_fault(error)}") from error


def _is_section(value: object) -> bool:
    return isinstance(value, BaseModel) and not isinstance(value, NetworkSpec)
