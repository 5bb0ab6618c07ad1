"""The verbs of the server, free of HTTP: what a route calls, and what a script can call as well."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, final

import torch
from torch import Tensor

from recall_server.cards.bundle_card import bundle_card
from recall_server.cards.classifier_card import classifier_card
from recall_server.classifier import FreshClassifier
from recall_server.errors import InvalidRequest, UnsupportedQuery
from recall_server.jobs.files import ClassifierFiles
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.local import LocalBackend
from recall_server.jobs.records import BundleIdentity, ClassifierRecord, ImageSize, now
from recall_server.jobs.store import SqlJobStore
from recall_server.jobs.task import TaskDescription, TrainingTask
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library import Library, LoadedBundle
from recall_server.quality import quality_of_labels, quality_of_pictures
from recall_server.queries import (
    Picture,
    PictureLimits,
    Query,
    decode_all,
    label_queries,
    mixture_queries,
    picture_queries,
    vector_queries,
)
from recall_server.recalled import PerLabel, Recalled, recall
from recall_server.settings import Settings
from recall_server.watched_library import WatchedLibrary

DownloadFormat = Literal["safetensors", "onnx"]


@final
@dataclass(frozen=True)
class RecallOptions:
    """How many images of each query, drawn with which seed, and in which bundle names are looked up."""

    bundle: str | None = None
    per_label: PerLabel = None
    seed: int | None = None


@final
@dataclass(frozen=True)
class Asked:
    """Who asks for a training, and the key under which the same request may be repeated."""

    idempotency_key: str | None = None
    caller: str | None = None


@final
@dataclass(frozen=True)
class Accepted:
    """A training that was accepted, and how many pictures it will compute; none where it is shared or known already."""

    record: ClassifierRecord
    work: int


@final
@dataclass(frozen=True)
class Prediction:
    """The most probable label of one picture, and the probability of each."""

    label: str
    probabilities: dict[str, float]


@final
class RecallService:
    """Recall, train, predict and take away. Methods may be called from several threads."""

    def __init__(self, library: Library | WatchedLibrary, jobs: TrainingJobs, settings: Settings) -> None:
        self._library, self.jobs, self.settings = library, jobs, settings
        self._draining_since: float | None = None
        self._picture_limits = PictureLimits(pictures=settings.max_pictures, pixels=settings.max_picture_pixels)

    @classmethod
    def assemble(cls, settings: Settings) -> Self:
        """A service of the bundles in `settings.artifacts`, followed as they change, and of local training processes.

        Raises StorageFailed where the state folder cannot be used.
        """
        library = WatchedLibrary(
            lambda previous: Library.load(
                settings.artifacts, device=settings.device, public_key=settings.public_key, previous=previous
            ),
            settings.artifacts,
        )
        backend = LocalBackend(device=settings.device, threads=settings.worker_threads, workers=settings.workers)
        files, store = ClassifierFiles(settings.state), SqlJobStore.open(settings.database_url)
        jobs = TrainingJobs(store, files, backend, job_limits(settings))
        jobs.open()
        return cls(library, jobs, settings)

    @property
    def library(self) -> Library:
        """The bundles loaded now. Another one may stand here a moment later: read it once for each request."""
        return self._library.current if isinstance(self._library, WatchedLibrary) else self._library

    def start(self) -> None:
        """Begin to train, and to look for bundles that change."""
        if isinstance(self._library, WatchedLibrary):
            self._library.start()
        self.jobs.start()

    def begin_drain(self) -> None:
        """Take no more trainings, and let everybody who waits go: the server is about to stop. For signal handlers."""
        if self._draining_since is None:
            self._draining_since = time.monotonic()
        self.jobs.begin_drain()

    def stop(self) -> None:
        """End all trainings, those under way once the settings' `drain_seconds` since `begin_drain` are over."""
        self.begin_drain()
        if isinstance(self._library, WatchedLibrary):
            self._library.stop()
        spent = time.monotonic() - (self._draining_since or 0.0)
        self.jobs.stop(max(0.0, self.settings.drain_seconds - spent))

    def recall_labels(
        self, labels: Sequence[str], options: RecallOptions = RecallOptions(), *, library: Library | None = None
    ) -> Recalled:
        """Images of these labels, from the bundles loaded now or from those of `library`."""
        return self._recall(label_queries(library or self.library, labels, options.bundle), options)

    def recall_mixtures(
        self, mixtures: Sequence[Mapping[str, float]], options: RecallOptions = RecallOptions()
    ) -> Recalled:
        """Images of weighted sums of labels."""
        return self._recall(mixture_queries(self.library, mixtures, options.bundle), options)

    def recall_vectors(self, vectors: Sequence[Sequence[float]], options: RecallOptions = RecallOptions()) -> Recalled:
        """Images of raw query vectors [d_y]."""
        return self._recall(vector_queries(self.library, vectors, options.bundle), options)

    def recall_pictures(self, pictures: Sequence[Picture], options: RecallOptions = RecallOptions()) -> Recalled:
        """What the memory recalls for these pictures; those of one part are averaged to one query."""
        queries = picture_queries(self.library, pictures, options.bundle, limits=self._picture_limits)
        return self._recall(queries, options)

    def train_labels(
        self, labels: Sequence[str], *, bundle: str | None = None, seed: int = 0, asked: Asked = Asked()
    ) -> Accepted:
        """Queue the training of a classifier that tells these labels of one bundle apart."""
        self._check_classes(len(labels), "labels")
        queries = label_queries(self.library, labels, bundle)
        used = list(dict.fromkeys(query.loaded.name for query in queries))
        if len(used) > 1:
            raise UnsupportedQuery(
                f"the labels are of different bundles ({', '.join(used)}); a classifier is trained from one bundle",
                parameter="labels",
            )
        return self._train(queries, seed, asked)

    def train_pictures(
        self, pictures: Sequence[Picture], *, bundle: str | None = None, seed: int = 0, asked: Asked = Asked()
    ) -> Accepted:
        """Queue the training of a classifier whose classes are the names of the parts."""
        self._check_classes(len({picture.part for picture in pictures}), None)
        began = time.perf_counter()
        queries = picture_queries(self.library, pictures, bundle, limits=self._picture_limits)
        return self._train(queries, seed, asked, {"encoding": time.perf_counter() - began})

    def predict(self, identifier: str, pictures: Sequence[Picture]) -> list[Prediction]:
        """What a trained classifier sees in each picture, in their order; raises NotFound and NotReady."""
        path = self.jobs.finished_file(identifier)
        if not pictures:
            raise InvalidRequest("send one picture or more, as files in parts named 'images'", parameter="images")
        classifier = FreshClassifier.load(path)
        pixels = torch.from_numpy(decode_all(pictures, classifier.image_shape, limits=self._picture_limits))
        predictions = []
        for row in classifier.predict_probabilities(pixels).tolist():
            probabilities = dict(zip(classifier.labels, row, strict=True))
            predictions.append(Prediction(max(probabilities, key=probabilities.__getitem__), probabilities))
        return predictions

    def download(self, identifier: str, file_format: DownloadFormat) -> bytes:
        """A trained classifier as a file of that format; raises NotFound and NotReady."""
        if file_format == "safetensors":
            return self.jobs.read(identifier)
        return FreshClassifier.load(self.jobs.finished_file(identifier)).export_onnx()

    def bundle_card(self, name: str) -> str:
        """The card of a loaded memory, as Markdown; raises NotFound."""
        return bundle_card(self.library.get(name).bundle)

    def classifier_card(self, identifier: str) -> str:
        """The card of a trained classifier, as Markdown; raises NotFound and NotReady."""
        classifier = FreshClassifier.load(self.jobs.finished_file(identifier))
        record = self.jobs.get(identifier)
        loaded = self.library.bundles.get(record.bundle.name)
        same = loaded is not None and loaded.sha256 == record.bundle.sha256
        return classifier_card(record, classifier, loaded.bundle if loaded is not None and same else None)

    def _recall(self, queries: Sequence[Query], options: RecallOptions) -> Recalled:
        limit = self.settings.max_recalled_numbers
        return recall(queries, per_label=options.per_label, seed=options.seed, max_numbers=limit)

    def _check_classes(self, count: int, parameter: str | None) -> None:
        if count < 2:
            raise InvalidRequest(
                "a classifier tells classes apart, so it needs two or more; "
                f"this request names {'one' if count else 'none'}",
                parameter=parameter,
            )
        if count > self.settings.max_classes:
            raise InvalidRequest(
                f"{count} classes are more than the {self.settings.max_classes} of one classifier", parameter=parameter
            )

    def _train(
        self, queries: Sequence[Query], seed: int, asked: Asked, spent: Mapping[str, float] | None = None
    ) -> Accepted:
        """Recall for queries to one bundle, and hand the images to the training process; `spent` has gone by before."""
        loaded, labels = queries[0].loaded, tuple(query.name for query in queries)
        shown = {query.name: query.pictures for query in queries if query.pictures is not None}
        self._check_size(loaded, len(queries))
        began = time.perf_counter()
        images = _recalled(queries)
        recalling = time.perf_counter() - began
        channels, height, width = loaded.bundle.memory.image_shape
        record = ClassifierRecord(
            id=uuid.uuid4().hex,
            labels=labels,
            bundle=BundleIdentity(name=loaded.name, sha256=loaded.sha256),
            queries="images" if shown else "labels",
            pictures={name: len(each) for name, each in shown.items()} or None,
            image=ImageSize(channels=channels, height=height, width=width),
            network=str(loaded.bundle.manifest.retraining.network),
            seed=seed,
            quality=quality_of_pictures(shown) if shown else quality_of_labels(loaded.bundle.manifest, labels),
            preparation=dict(spent or {}) | {"recalling": recalling},
            created_at=now(),
        )
        submitted = self.jobs.submit(
            record, _task(loaded, images, record), idempotency_key=asked.idempotency_key, caller=asked.caller
        )
        retraining = loaded.bundle.manifest.retraining
        work = len(labels) * retraining.rows_per_class * retraining.steps
        return Accepted(submitted.record, work if submitted.created else 0)

    def _check_size(self, loaded: LoadedBundle, classes: int) -> None:
        channels, height, width = loaded.bundle.memory.image_shape
        numbers = classes * loaded.bundle.memory.rows * channels * height * width
        if numbers > self.settings.max_recalled_numbers:
            raise InvalidRequest(
                f"training on {classes} classes takes {numbers:,} recalled numbers, more than the "
                f"{self.settings.max_recalled_numbers:,} of one request; ask for fewer classes"
            )


def job_limits(settings: Settings) -> JobLimits:
    """What the settings say of jobs; a 0 that stands for "without limit" becomes None."""
    return JobLimits(
        queue=settings.queue_limit,
        queue_seconds=settings.queue_seconds,
        training_seconds=settings.training_seconds,
        attempts=settings.training_attempts,
        keep_seconds=settings.keep_days * 86_400 or None,
        keep_bytes=settings.keep_bytes or None,
        lease_seconds=settings.lease_seconds,
    )


def _recalled(queries: Sequence[Query]) -> Tensor:
    """All rows [k, r, C, H, W] of all queries to one bundle, in model space."""
    with torch.inference_mode():
        return queries[0].loaded.bundle.memory.recall(torch.stack([query.vector for query in queries]))


def _task(loaded: LoadedBundle, images: Tensor, record: ClassifierRecord) -> TrainingTask:
    """Images [k, r, C, H, W] of that bundle, those of each query with its own class as the target."""
    bundle = loaded.bundle
    return TrainingTask(
        images=images,
        targets=torch.eye(len(images)),
        preprocessing=bundle.preprocessing,
        description=TaskDescription(
            labels=record.labels,
            preprocessing=bundle.manifest.preprocessing,
            retraining=bundle.manifest.retraining,
            seed=record.seed,
            # Nothing that differs between two equal requests, or their files would differ.
            metadata={"bundle": record.bundle.name, "bundle_sha256": record.bundle.sha256, "queries": record.queries},
        ),
    )
