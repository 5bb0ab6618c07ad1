"""The name of an architecture and its settings, as manifests, command lines and requests give them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_FILTERS = 128
DEFAULT_DEPTH = 3
_CONVNET_ONLY = {"filters": DEFAULT_FILTERS, "depth": DEFAULT_DEPTH}


class NetworkSpec(BaseModel):
    """An architecture without the shape of its images and the number of its classes.

    `filters` and `depth` belong to the ConvNet (128 and 3 unless given, as in the paper's appendix A.1) and are
    None for the others, which refuse them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["convnet", "resnet", "alexnet"] = "convnet"
    filters: Annotated[int, Field(ge=1, le=1024)] | None = None
    depth: Annotated[int, Field(ge=1, le=8)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _settle_convnet_only(cls, fields: Any) -> Any:
        """Fill in the ConvNet's defaults, and refuse its settings on an architecture that has none."""
        if not isinstance(fields, dict):
            return fields
        if fields.get("architecture", "convnet") == "convnet":
            return fields | {name: value for name, value in _CONVNET_ONLY.items() if fields.get(name) is None}
        refused = [name for name in _CONVNET_ONLY if fields.get(name) is not None]
        if refused:
            raise ValueError(f"{fields['architecture']} has a fixed shape; {' and '.join(refused)} belong to convnet")
        return fields

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "convnet", "convnet:filters=64,depth=3", "resnet"; the inverse of `str`. ValueError otherwise."""
        architecture, _, settings = text.partition(":")
        fields: dict[str, str] = {"architecture": architecture}
        for setting in filter(None, settings.split(",")):
            name, equals, value = setting.partition("=")
            if not equals or name not in _CONVNET_ONLY or name in fields:
                raise ValueError(f"{text!r} is no network; write for example 'convnet:filters=64,depth=3' or 'resnet'")
            fields[name] = value
        return cls.model_validate(fields)

    def __str__(self) -> str:
        if self.architecture != "convnet":
            return self.architecture
        return f"convnet:filters={self.filters},depth={self.depth}"
