"""The server's answers as frozen pydantic models. Fields of a later server are kept in `model_extra`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from recall_client.pictures import Picture

_DATA_URI = "data:image/png;base64,"


def _picture_from_data_uri(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_DATA_URI):
        raise ValueError("not a PNG data URI")
    try:
        return Picture(base64.b64decode(value.removeprefix(_DATA_URI), validate=True))
    except binascii.Error as error:
        raise ValueError("a data URI without base64") from error


PngPicture: TypeAlias = Annotated[Picture, BeforeValidator(_picture_from_data_uri)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class ImageShape(_Answer):
    """Channels, height and width of pictures."""

    channels: int
    height: int
    width: int


class BundleReference(_Answer):
    """A bundle by its name and the sha256 of its file."""

    name: str
    sha256: str


class Accuracy(_Answer):
    """Accuracy of `runs` fresh networks trained from a bundle; `spread` is the standard deviation."""

    network: str
    protocol: str
    runs: int
    mean: float
    spread: float
    data: str


class StatedAccuracy(Accuracy):
    """The accuracy that is stated for a bundle. `low` to `high` is its 95 % interval for so many test `pictures`.

    All three are None if the number of pictures was not recorded. `sentence` says all of it.
    """

    classes: int
    pictures: int | None
    low: float | None
    high: float | None
    sentence: str


class Bundle(BundleReference):
    """A loaded memory bundle. `queries` is "labels" or "images": what addresses it; `space` "pixels" or "features".

    `stated_accuracy` is the one of `accuracy` to show, by the bundle's own schedule if there is one. `dataset_bytes` is
    the size of the original dataset, None where it is unknown. `links` are paths on the server.
    `manifest` is the manifest of the bundle's file, None in a list of bundles.
    """

    file_bytes: int
    queries: str
    space: str = "pixels"
    labels: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    image: ImageShape
    network: str
    dataset: str
    images_per_class: float
    accuracy: tuple[Accuracy, ...]
    stated_accuracy: StatedAccuracy | None = None
    dataset_bytes: int | None = None
    links: Mapping[str, str | None] = {}
    manifest: Mapping[str, Any] | None = None


class Bases(_Answer):
    """The basis pictures of a memory at their stored resolution, each scaled to its own range."""

    bundle: BundleReference
    image: ImageShape
    bases: tuple[PngPicture, ...]


class Similarity(_Answer):
    """Cosine similarity [k, k] of the addressing coefficients of a memory's labels."""

    bundle: BundleReference
    labels: tuple[str, ...]
    similarity: tuple[tuple[float, ...], ...]


class RecalledQuery(_Answer):
    """The images recalled for one query; `rows` are the memory's rows that they come from.

    `target` is the target of these images: the share of each label. `out_of_set` is, for pictures, their distance from
    what the memory knows, from 0 to 1, where it is known.
    """

    name: str
    bundle: str
    target: Mapping[str, float]
    rows: tuple[int, ...]
    out_of_set: float | None = None
    image: ImageShape
    images: tuple[PngPicture, ...]


class Recalled(_Answer):
    """Recalled pictures; `recalled` has one entry per query, in the order of the request."""

    seed: int | None
    bundles: tuple[BundleReference, ...]
    recalled: tuple[RecalledQuery, ...]


class Progress(_Answer):
    """Progress of a training: `done` of `total` steps, and the latest loss, where it is known."""

    done: int
    total: int
    loss: float | None = None


class ClassifierFile(_Answer):
    """Size and sha256 of a trained classifier's safetensors file."""

    bytes: int
    sha256: str


class Failure(_Answer):
    """The reason why a training failed."""

    type: str
    title: str
    detail: str


class Quality(_Answer):
    """The estimated accuracy of a classifier.

    `source` is "evaluation" (measured on real pictures when the memory was evaluated) or "pictures" (estimated from the
    pictures that were sent). `counts` is the number of pictures per label; `explanation` says what was measured.
    """

    accuracy: float
    source: str
    per_label: Mapping[str, float] = {}
    counts: Mapping[str, int] = {}
    explanation: str = ""


class WayScore(_Answer):
    """The accuracy of a way to use pictures on `pictures` that were left out, with its 95 % interval."""

    accuracy: float
    low: float
    high: float
    pictures: int


class ClassifierState(_Answer):
    """The state of a classifier when the server was last asked.

    `status` is "queued", "running", "succeeded", "failed" or "cancelled"; `is_terminal` is true for the last three.
    `progress` is None before training starts, `file` before it succeeds, `error` unless it failed. `addressing` is how
    pictures were used, None for a classifier trained from labels, and `ways` how each way did on pictures left out,
    None where none was compared. `bundle` gives the training schedule, or is the encoder where no memory was used;
    `bundles` are all memories that the classes come from. `quality` is None where it could not be estimated.
    `out_of_set` is, per class, the share of the memory's own pictures that are nearer to it than the pictures that were
    sent, where it is known. `notes` are caveats, one sentence each. `stages` are seconds by stage, None until the
    training has ended.
    """

    id: str
    status: str
    is_terminal: bool
    labels: tuple[str, ...]
    bundle: BundleReference
    bundles: tuple[BundleReference, ...] = ()
    queries: str
    addressing: str | None = None
    ways: Mapping[str, WayScore] | None = None
    pictures: Mapping[str, int] | None = None
    out_of_set: Mapping[str, float] | None = None
    image: ImageShape
    network: str
    seed: int
    progress: Progress | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None
    attempt: int = 1
    quality: Quality | None = None
    notes: tuple[str, ...] = ()
    stages: Mapping[str, float] | None = None
    file: ClassifierFile | None = None
    error: Failure | None = None
    links: Mapping[str, str | None] = {}


class Event(_Answer):
    """An event of a training; `kind` is "status" or "progress".

    `number` counts from 1 within a training; `events(after=number)` continues after it.
    """

    number: int
    at: datetime
    kind: str
    status: str
    progress: Progress | None = None
    error: Failure | None = None


class Prediction(_Answer):
    """The most probable label of one picture, and the probability of each label.

    `by` is "classifier" or "prototypes"; prototypes answer for a classifier without training, and until training ends.
    `familiarity` is the chance, 0 to 1, that the picture shows one of the classes, as if half of all pictures did, and
    `none_of_these` says that it is below the threshold. Both are None where the classifier does not know.
    """

    label: str
    probabilities: Mapping[str, float]
    by: str = "classifier"
    familiarity: float | None = None
    none_of_these: bool | None = None


class ServerInfo(_Answer):
    """The server: its version, limits, rate limits ("600/minute", None for no limit) and devices."""

    name: str
    version: str
    limits: Mapping[str, float]
    rates: Mapping[str, str | None] = {}
    device: Mapping[str, str | None] = {}


class BundleList(_Answer):
    """The answer of GET /bundles; `aliases` maps further names to the labels and groups that they stand for."""

    bundles: tuple[Bundle, ...]
    aliases: Mapping[str, tuple[str, ...]] = {}


class ClassifierList(_Answer):
    """A page of GET /classifier, newest first; `next` is the cursor of the next page."""

    classifiers: tuple[ClassifierState, ...]
    next: str | None = None


class Predictions(_Answer):
    """The answer of POST /classifier/{id}/predict, in the order of the pictures."""

    predictions: tuple[Prediction, ...]
