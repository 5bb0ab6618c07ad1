"""What the server answers, as frozen models. Fields that a later server adds are kept in `model_extra`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

from recall_client.pictures.uploads import Picture

_DATA_URI = "data:image/png;base64,"


def _picture_from_data_uri(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(_DATA_URI):
        raise ValueError("a PNG data URI is expected")
    try:
        return Picture(base64.b64decode(value.removeprefix(_DATA_URI), validate=True))
    except binascii.Error as error:
        raise ValueError("the data URI holds no base64") from error


PngPicture: TypeAlias = Annotated[Picture, BeforeValidator(_picture_from_data_uri)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class ImageShape(_Answer):
    """Channels, height and width of a bundle's pictures."""

    channels: int
    height: int
    width: int


class BundleReference(_Answer):
    """A bundle by name, and by the digest of its file."""

    name: str
    sha256: str


class Accuracy(_Answer):
    """What fresh networks trained from a bundle reach: `mean` and `spread` (standard deviation) over `runs` of them."""

    network: str
    protocol: str
    runs: int
    mean: float
    spread: float
    data: str


class Bundle(BundleReference):
    """A loaded memory bundle. `queries` says how it is addressed: by "labels" or by "images" (pictures).

    `dataset_bytes` is how large the original dataset was, where the bundle says so; `links` are paths on the server.
    `manifest` holds the whole manifest of the file where a single bundle was asked for, else None.
    """

    file_bytes: int
    queries: str
    labels: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    image: ImageShape
    network: str
    dataset: str
    images_per_class: float
    accuracy: tuple[Accuracy, ...]
    dataset_bytes: int | None = None
    links: Mapping[str, str | None] = {}
    manifest: Mapping[str, Any] | None = None


class Bases(_Answer):
    """The pictures that a memory is made of, at the resolution they are stored in, each in its own range of grey."""

    bundle: BundleReference
    image: ImageShape
    bases: tuple[PngPicture, ...]


class Similarity(_Answer):
    """How alike a memory's labels are: row i holds the cosine similarity of label i's coefficients to every label's."""

    bundle: BundleReference
    labels: tuple[str, ...]
    similarity: tuple[tuple[float, ...], ...]


class RecalledQuery(_Answer):
    """What one label, mixture, vector or set of pictures recalled: `rows` are the memory's rows behind `images`.

    `target` is what a classifier should answer for these images: the share of each label. `out_of_set` says of pictures
    how far they are from what the memory knows, 0 to 1, where that is known.
    """

    name: str
    bundle: str
    target: Mapping[str, float]
    rows: tuple[int, ...]
    out_of_set: float | None = None
    image: ImageShape
    images: tuple[PngPicture, ...]


class Recalled(_Answer):
    """Recalled pictures, one entry of `recalled` for each query in the order asked."""

    seed: int | None
    bundles: tuple[BundleReference, ...]
    recalled: tuple[RecalledQuery, ...]


class Progress(_Answer):
    """How far a training is: `done` of `total` steps; the loss of the latest one, where it is known."""

    done: int
    total: int
    loss: float | None = None


class ClassifierFile(_Answer):
    """Size and digest of a finished classifier's safetensors file."""

    bytes: int
    sha256: str


class Failure(_Answer):
    """Why a training failed."""

    type: str
    title: str
    detail: str


class Quality(_Answer):
    """An estimate of how often a classifier is right, made before anybody has used it.

    `source` is "evaluation" (measured on real pictures when the memory was evaluated) or "pictures" (from the pictures
    that were sent); `counts` says on how many of each label, and `explanation` in words what was measured.
    """

    accuracy: float
    source: str
    per_label: Mapping[str, float] = {}
    counts: Mapping[str, int] = {}
    explanation: str = ""


class ClassifierState(_Answer):
    """A classifier as the server last described it.

    `status` is "queued", "running", "succeeded", "failed" or "cancelled"; `is_terminal` says that it is one of the last
    three. `progress` is None before training has started, `file` before it has succeeded, `error` unless it failed.
    `addressing` is how pictures were used: "images", "classify" or "prototypes"; None for a classifier of labels.
    `bundle` is the memory by whose schedule it is trained, `bundles` are all that its classes are of. `quality` is None
    where nothing could be estimated. `out_of_set` says how far the pictures of each class are from what the memory
    knows, as the share of known pictures that are nearer; None where that is not known. `notes` are sentences that
    whoever relies on it should know; `stages` are the seconds by stage once it has ended.
    """

    id: str
    status: str
    is_terminal: bool
    labels: tuple[str, ...]
    bundle: BundleReference
    bundles: tuple[BundleReference, ...] = ()
    queries: str
    addressing: str | None = None
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
    """Something that happened to a training: a change of `status`, or progress (`kind` says which).

    `number` counts from 1 within one training; `events(after=number)` goes on behind it.
    """

    number: int
    at: datetime
    kind: str
    status: str
    progress: Progress | None = None
    error: Failure | None = None


class Prediction(_Answer):
    """The likeliest label of one picture, and the probability of each.

    `by` is "prototypes" where these answered: for a classifier of nothing else, or until training has ended.
    """

    label: str
    probabilities: Mapping[str, float]
    by: str = "classifier"


class ServerInfo(_Answer):
    """What runs at the other end: its limits, its rates ("600/minute", None for no limit), and the devices in use."""

    name: str
    version: str
    limits: Mapping[str, float]
    rates: Mapping[str, str | None] = {}
    device: Mapping[str, str | None] = {}


class BundleList(_Answer):
    """The answer of GET /bundles; `aliases` are other names, each with the labels and groups that it stands for."""

    bundles: tuple[Bundle, ...]
    aliases: Mapping[str, tuple[str, ...]] = {}


class ClassifierList(_Answer):
    """A page of GET /classifier, newest first; `next` is the cursor of the page after it."""

    classifiers: tuple[ClassifierState, ...]
    next: str | None = None


class Predictions(_Answer):
    """The answer of POST /classifier/{id}/predict, in the order sent."""

    predictions: tuple[Prediction, ...]
