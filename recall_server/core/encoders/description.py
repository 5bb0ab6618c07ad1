"""The description in the metadata of an encoder's ONNX file: picture size, features, source and licence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DESCRIPTION_KEY: Final = "memory_recall_encoder"
Text = Annotated[str, Field(min_length=1, max_length=400)]


class EncoderDescription(BaseModel):
    """A pre-trained encoder. Pictures are cropped to the central square and resized to `size` x `size` pixels.

    `width` is the number of features. `source` and `licence` are those of the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    size: Annotated[int, Field(ge=8, le=1024)]
    width: Annotated[int, Field(ge=1, le=65_536)]
    source: Text
    licence: Text


def description_of(metadata: Mapping[str, str]) -> EncoderDescription | None:
    """The description in the metadata of a model; None if there is none, or one that says something else."""
    try:
        return EncoderDescription.model_validate_json(metadata.get(DESCRIPTION_KEY, ""))
    except ValidationError:
        return None
