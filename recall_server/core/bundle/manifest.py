"""The manifest: the JSON text beside the tensors of a bundle (artifacts/README.md specifies every key)."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from recall_server.core.io.labels import check_label
from recall_server.core.io.tensor_file import canonical_json, parse_json, printable
from recall_server.core.training.retraining import Retraining

FORMAT_VERSION: Final = 3  # the only version that is written and read
ROUNDING = 1e-6  # of a mean accuracy that was summed in another order
MOST_CONFUSED: Final = 200  # most labels in a table of confusions, which grows with their square


def _check_date(date: str) -> str:
    try:
        datetime.fromisoformat(date)
    except ValueError:
        raise ValueError(f"the date {date!r} must be ISO 8601, like 2026-11-21 or 2026-11-21T14:30:00Z") from None
    return date


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_label)]
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
FileName = Annotated[str, Field(pattern=NAME_PATTERN)]
Phrase = Annotated[str, Field(max_length=1000)]
Setting = Annotated[int, Field(ge=0, le=2**53)] | Annotated[str, Field(max_length=100)]
Scalar = bool | int | float | Annotated[str, Field(max_length=1000)] | None
Size = Annotated[int, Field(ge=1, le=2**53)]  # 2^53: all JSON readers agree on integers up to here
Confusions = Annotated[
    tuple[Annotated[tuple[Annotated[int, Field(ge=0, le=2**53)], ...], Field(max_length=MOST_CONFUSED)], ...],
    Field(min_length=1, max_length=MOST_CONFUSED),
]


class Section(BaseModel):
    """A part of the manifest: immutable, without unknown keys and without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MemoryDescription(Section):
    """The kind of memory, and the settings that are needed to rebuild it from the tensors."""

    kind: Kind
    settings: dict[Kind, Setting]


class ImageDescription(Section):
    """The size and channels of recalled images."""

    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=1024)]
    width: Annotated[int, Field(ge=1, le=1024)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class EncoderReference(Section):
    """The ONNX file of an encoder: its bare file name, its digest, and the length of its output."""

    file: FileName
    sha256: Sha256
    query_size: Size


class Budget(Section):
    """The budget of the memory: images per class, stored numbers, and bytes of the original data.

    The size of the bundle's file is not part of it; see `MemoryBundle.file_bytes`.
    """

    images_per_class: Annotated[float, Field(gt=0)]
    numbers_stored: Size
    dataset_bytes: Size


class Provenance(Section):
    """How the bundle was made, in enough detail to repeat it. `date` is ISO 8601; `seconds` is wall-clock time."""

    dataset: Phrase
    dataset_sha256: Sha256
    dataset_licence: Phrase
    method: Phrase
    hyper_parameters: dict[Phrase, Scalar]
    seed: int
    outer_steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    device: Phrase
    code_version: Phrase
    date: Annotated[str, Field(max_length=40), AfterValidator(_check_date)]


class Accuracy(Section):
    """Accuracy of `runs` fresh networks on `data`: mean and standard deviation, as fractions from 0 to 1."""

    network: Phrase
    protocol: Phrase
    runs: Annotated[int, Field(ge=1)]
    mean: Annotated[float, Field(ge=0, le=1)]
    spread: Annotated[float, Field(ge=0, le=1)]
    data: Phrase


class MeasuredAccuracy(Accuracy):
    """An accuracy with its `confusions`, if they were counted.

    Row i and column j count how often the networks of all runs answered label j for pictures of label i. Every run uses
    every picture, so a row's sum is the number of the label's pictures times the number of runs.
    """

    confusions: Confusions | None = None

    @model_validator(mode="after")
    def _check_confusions(self) -> Self:
        if self.confusions is None:
            return self
        if any(len(row) != len(self.confusions) for row in self.confusions):
            raise ValueError("confusions must be a square table, with a row and a column for each label")
        if any(sum(row) % self.runs for row in self.confusions):
            raise ValueError(f"each row of confusions must count every picture {self.runs} times, once for each run")
        total = sum(map(sum, self.confusions))
        right = sum(row[label] for label, row in enumerate(self.confusions))
        if total == 0 or abs(right / total - self.mean) > ROUNDING:
            raise ValueError(f"confusions with {right} right of {total} do not make a mean accuracy of {self.mean:g}")
        return self


class ValidationPoint(Section):
    """Accuracy on validation pictures (0 to 1) after a number of outer steps and minutes."""

    outer_steps: Annotated[int, Field(ge=0, le=2**53)]
    minutes: Annotated[float, Field(ge=0)]
    accuracy: Annotated[float, Field(ge=0, le=1)]


class RunProgress(Section):
    """The progress of the run that wrote the file. A run replaces its bundle by better versions.

    `version` counts the bundles that the run has written, including this one; `minutes` is its time so far;
    `validation` is its curve so far, in order. The bundle holds the best state of the curve by the rule of the run.
    """

    version: Size
    minutes: Annotated[float, Field(ge=0)]
    validation: Annotated[tuple[ValidationPoint, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        steps = [point.outer_steps for point in self.validation]
        if steps != sorted(set(steps)):
            raise ValueError("the points of the validation curve must be in the order of their outer steps, each once")
        return self


class Manifest(Section):
    """The manifest of a bundle. Impossible combinations are refused with a sentence.

    `space` is "pixels" if recalled items are images, and "features" if they are vectors that `feature_encoder` computes
    from pictures of the size `image`.

    `queries` is "labels" if a query is one-hot (or a mixture) over `labels`, and "images" if `query_encoder` computes
    it from a picture; `labels` then only names the classes that the memory was distilled from.
    """

    format_version: Literal[3] = FORMAT_VERSION
    name: FileName
    memory: MemoryDescription
    space: Literal["pixels", "features"] = "pixels"
    queries: Literal["labels", "images"]
    labels: Annotated[tuple[Label, ...], Field(min_length=1, max_length=10_000)]
    groups: dict[Label, tuple[Label, ...]] = {}
    image: ImageDescription
    preprocessing: Kind
    retraining: Retraining
    query_encoder: EncoderReference | None = None
    feature_encoder: Annotated[EncoderReference | None, Field(exclude_if=lambda encoder: encoder is None)] = None
    budget: Budget
    provenance: Provenance
    accuracy: tuple[MeasuredAccuracy, ...] = ()
    progress: RunProgress | None = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.retraining.initial == "encoder" and self.queries == "labels":
            raise ValueError("a memory whose queries are labels has no encoder for its classifiers to begin with")
        self._check_confusions()
        known = set(self.labels)
        if len(known) != len(self.labels):
            raise ValueError("the labels must be different from each other")
        for group, members in self.groups.items():
            if not members or len(set(members)) != len(members) or not known.issuperset(members):
                raise ValueError(f"the group {group!r} must hold one or more of the labels, each once")
        if (self.queries == "images") != (self.query_encoder is not None):
            raise ValueError("a memory has a query encoder if, and only if, its queries are images")
        if (self.space == "features") != (self.feature_encoder is not None):
            raise ValueError("a memory has a feature encoder if, and only if, its space is features")
        if self.space == "features" and self.queries != "labels":
            raise ValueError("a memory of features is addressed by labels")
        available = round(self.budget.images_per_class * len(self.labels) * math.prod(self.image.shape))
        if self.budget.numbers_stored > available:
            raise ValueError(
                f"{self.budget.numbers_stored} numbers are more than the {available} "
                f"of the {self.budget.images_per_class:g} images per class that the budget claims"
            )
        return self

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of a recalled item: (channels, height, width) of an image, or (D,) of features."""
        return self.image.shape if self.feature_encoder is None else (self.feature_encoder.query_size,)

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """What networks see: (channels, height, width), where features are D channels of one pixel."""
        return self.image.shape if self.feature_encoder is None else (self.feature_encoder.query_size, 1, 1)

    def _check_confusions(self) -> None:
        counted = [row.confusions for row in self.accuracy if row.confusions is not None]
        if counted and self.queries != "labels":
            raise ValueError("a memory whose queries are images has no labels to confuse, so no confusions")
        for confusions in counted:
            if len(confusions) != len(self.labels):
                raise ValueError(f"confusions of {len(confusions)} labels do not belong to {len(self.labels)} labels")

    def to_json(self) -> str:
        """Canonical JSON: equal manifests give equal texts."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises ValueError with one sentence that names the faulty key."""
        raw = parse_json(text)
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if (
            type(version) is not int or version != FORMAT_VERSION
        ):  # checked first, because other versions have other keys
            raise ValueError(f"the format version is {printable(repr(version))}; this code reads {FORMAT_VERSION}")
        try:
            return cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise ValueError(f"the manifest is not valid: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first of pydantic's errors as a clause: the place, and what would be right."""
    fault: Any = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    sentence = str(fault["msg"]).removeprefix("Value error, ")
    return printable(f"{place}: {sentence}" if place else sentence, longest=300)
