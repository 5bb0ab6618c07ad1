"""An architecture's name and settings, as they appear in manifests, command lines and requests."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The settings of each architecture with their defaults, which are the paper's networks (appendix A.1 and A.2).
SETTINGS: Final[dict[str, dict[str, int]]] = {
    "convnet": {"filters": 128, "depth": 3, "shrink": 1},
    "resnet": {"shrink": 1},
    "alexnet": {"shrink": 1},
    "mlp": {"hidden": 256, "depth": 1},
    "linear": {},
}
_NAMES: Final = dict.fromkeys(name for settings in SETTINGS.values() for name in settings)


class NetworkSpec(BaseModel):
    """An architecture and its settings, without the image shape and the number of classes.

    `shrink` is the factor by which images are reduced, by averaging, before the first layer. Settings that the
    architecture does not have are None, and are refused if given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["convnet", "resnet", "alexnet", "mlp", "linear"] = "convnet"
    filters: Annotated[int, Field(ge=1, le=1024)] | None = None
    hidden: Annotated[int, Field(ge=1, le=65_536)] | None = None
    depth: Annotated[int, Field(ge=1, le=8)] | None = None
    shrink: Annotated[int, Field(ge=1, le=8)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, fields: Any) -> Any:
        """Fill in the architecture's defaults, and refuse settings of other architectures."""
        if not isinstance(fields, dict):
            return fields
        architecture = fields.get("architecture", "convnet")
        if not isinstance(architecture, str) or architecture not in SETTINGS:
            return fields  # the field's type refuses it
        known = SETTINGS[architecture]
        refused = [name for name in _NAMES if name not in known and fields.get(name) is not None]
        if refused:
            takes = " and ".join(known) if len(known) < 3 else f"{', '.join([*known][:-1])} and {[*known][-1]}"
            raise ValueError(f"{architecture} takes {takes or 'no settings'}, not {' or '.join(refused)}")
        return fields | {name: value for name, value in known.items() if fields.get(name) is None}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "convnet", "convnet:filters=64,depth=3" or "resnet"; the inverse of `str`. Raises ValueError."""
        architecture, _, settings = text.partition(":")
        if architecture not in SETTINGS:
            raise ValueError(f"there is no network {architecture!r}; there are {', '.join(SETTINGS)}")
        fields: dict[str, str] = {"architecture": architecture}
        for setting in filter(None, settings.split(",")):
            name, equals, value = setting.partition("=")
            if not equals or name not in _NAMES or name in fields:
                raise ValueError(
                    f"{text!r} is not a network; write for example 'convnet:filters=64,depth=3' or 'resnet'"
                )
            fields[name] = value
        return cls.model_validate(fields)

    def shrinking(self, times: int) -> Self:
        """A copy with `shrink` set to `times`; itself if its architecture has no such setting."""
        return self if self.shrink in {None, times} else self.model_copy(update={"shrink": times})

    def settings(self) -> dict[str, int]:
        """The settings of this architecture, by name."""
        return {name: getattr(self, name) for name in SETTINGS[self.architecture]}

    def __str__(self) -> str:
        given = {name: value for name, value in self.settings().items() if (name, value) != ("shrink", 1)}
        settings = ",".join(f"{name}={value}" for name, value in given.items())
        return f"{self.architecture}:{settings}" if settings else self.architecture
