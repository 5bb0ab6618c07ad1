"""The verbs of the server, free of HTTP. Routes call them, and so may scripts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self, final

from recall_server.config import Settings
from recall_server.core.classifier.familiarity import NONE_BELOW
from recall_server.core.classifier.prototypes import NETWORK as PROTOTYPES
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.records import IdempotencyKey
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library import HandedIn, Library, LoadOptions, WatchedLibrary
from recall_server.recall import (
    DIRECT,
    Addressing,
    Picture,
    PictureLimits,
    Query,
    Recalled,
    ResolvedPictures,
    Upload,
    add_own_pictures,
    build_training_set,
    label_queries,
    mixture_queries,
    picture_queries,
    recall,
    resolve_pictures,
    shared_format,
    vector_queries,
)
from recall_server.recall.features.label_familiarity import label_familiarity
from recall_server.recall.features.picture_request import FeatureRequest, pictures_in_features
from recall_server.service.batch_prediction import BatchPredictor, PredictionRequest
from recall_server.service.classifier_card import classifier_card
from recall_server.service.explanations import Explainer
from recall_server.service.feature_request import feature_file, feature_record
from recall_server.service.from_settings import backend_of, job_limits
from recall_server.service.loaded_classifiers import LoadedClassifiers
from recall_server.service.predictions import Predictions
from recall_server.service.requests import (
    ANONYMOUS,
    DEFAULT_OPTIONS,
    Caller,
    DownloadFormat,
    RecallOptions,
    TrainingReceipt,
)
from recall_server.service.training_request import (
    bundle_query,
    check_classes,
    check_names,
    check_size,
    request_record,
    request_task,
)


@final
class RecallService:
    """Recalls, trains, predicts and exports. Safe to use from several threads."""

    def __init__(self, library: Library | WatchedLibrary, jobs: TrainingJobs, settings: Settings) -> None:
        self._library, self.jobs, self.settings = library, jobs, settings
        self._loaded = LoadedClassifiers(jobs, encoders=lambda sha256, size: self.library.feature_encoder(sha256, size))
        self._draining_since: float | None = None
        self._picture_limits = PictureLimits(
            pictures=settings.max_pictures,
            pixels=settings.max_picture_pixels,
            total_pixels=settings.max_request_pixels,
        )
        self.batches = BatchPredictor(self._loaded, self._picture_limits)
        self.handed_in: HandedIn | None = None
        if isinstance(library, WatchedLibrary):
            options = LoadOptions(settings.device, settings.public_key)
            self.handed_in = HandedIn(library, settings.artifacts, options, settings.min_free_bytes)
        self.explainer = Explainer(self._loaded, jobs, self.batches, lambda: self.library)

    @classmethod
    def assemble(cls, settings: Settings) -> Self:
        """A service with the bundles in `settings.artifacts`, reloaded when they change, and its workers.

        Raises StorageFailed if the state folder or the job table cannot be used.
        """
        library = WatchedLibrary(
            lambda previous: Library.load(
                settings.artifacts, device=settings.device, public_key=settings.public_key, previous=previous
            ),
            settings.artifacts,
        )
        backend = backend_of(settings)
        files, store = ClassifierFiles(settings.state), SqlJobStore.open(settings.database_url)
        jobs = TrainingJobs(store, files, backend, job_limits(settings))
        jobs.open()
        return cls(library, jobs, settings)

    @property
    def library(self) -> Library:
        """The bundles that are loaded now. A reload replaces the library, so a request should read it once."""
        return self._library.current if isinstance(self._library, WatchedLibrary) else self._library

    def start(self) -> None:
        """Start the training processes, and follow the bundles on the disk."""
        if isinstance(self._library, WatchedLibrary):
            self._library.start()
        self.jobs.start()

    def begin_drain(self) -> None:
        """Accept no more trainings, and end all waits, before the server stops. May be called in a signal handler."""
        if self._draining_since is None:
            self._draining_since = time.monotonic()
        self.jobs.begin_drain()

    def stop(self) -> None:
        """Stop all workers. Running trainings have until `settings.drain_seconds` after `begin_drain`."""
        self.begin_drain()
        if isinstance(self._library, WatchedLibrary):
            self._library.stop()
        spent = time.monotonic() - (self._draining_since or 0.0)
        self.jobs.stop(max(0.0, self.settings.drain_seconds - spent))

    def recall_labels(
        self, labels: Sequence[str], options: RecallOptions = DEFAULT_OPTIONS, *, library: Library | None = None
    ) -> Recalled:
        """Recall images of these labels, from the bundles of `library` or those that are loaded now."""
        known, strict, space = library or self.library, options.strict, options.space
        return self._recall(label_queries(known, labels, options.bundle, strict=strict, space=space), options)

    def recall_mixtures(
        self, mixtures: Sequence[Mapping[str, float]], options: RecallOptions = DEFAULT_OPTIONS
    ) -> Recalled:
        """Recall images of weighted sums of labels."""
        return self._recall(mixture_queries(self.library, mixtures, options.bundle), options)

    def recall_vectors(self, vectors: Sequence[Sequence[float]], options: RecallOptions = DEFAULT_OPTIONS) -> Recalled:
        """Recall images of query vectors [d_y]."""
        return self._recall(vector_queries(self.library, vectors, options.bundle), options)

    def recall_pictures(
        self, pictures: Sequence[Picture], options: RecallOptions = DEFAULT_OPTIONS, *, upload: Upload = DIRECT
    ) -> Recalled:
        """Recall images for pictures. The encoded pictures of each part are averaged to one query."""
        queries = picture_queries(self.library, pictures, options.bundle, limits=self._limits(upload))
        return self._recall(queries, options)

    def train_labels(
        self,
        labels: Sequence[str],
        *,
        bundle: str | None = None,
        strict: bool = False,
        seed: int = 0,
        asked: Caller = ANONYMOUS,
    ) -> TrainingReceipt:
        """Queue the training of a classifier of these labels, which may be from several bundles.

        With `strict`, a label that several bundles know is refused.
        """
        most = self.settings.max_classes
        (check_names if labels else check_classes)(labels, most, "labels")
        key = asked.key(labels=list(labels), bundle=bundle, strict=strict, seed=seed)
        if (known := self._known(key)) is not None:
            return known
        queries = label_queries(self.library, labels, bundle, strict=strict)
        check_classes([query.name for query in queries], most, "labels")  # a group stands for several
        return self._train(queries, seed, key)

    def train_pictures(
        self,
        pictures: Sequence[Picture],
        *,
        bundle: str | None = None,
        addressing: Addressing = "auto",
        own_pictures: bool = True,
        seed: int = 0,
        labels: Sequence[str] = (),
        asked: Caller = ANONYMOUS,
        upload: Upload = DIRECT,
    ) -> TrainingReceipt:
        """Make a classifier whose classes are the parts of the pictures, after `labels` of memories of features.

        In the features of an encoder, which are used if one is loaded, it is ready at once. Else a training is queued:
        it learns from what is recalled for the pictures and, unless `own_pictures` is false, from the pictures. A
        classifier of prototypes needs no training.
        """
        check_classes([*labels, *{picture.part for picture in pictures}], self.settings.max_classes, None)
        key = asked.key(
            pictures, bundle=bundle, addressing=addressing, own_pictures=own_pictures, seed=seed, labels=list(labels)
        )
        if (known := self._known(key)) is not None:
            return known
        began = time.perf_counter()
        found = pictures_in_features(
            self.library, pictures, FeatureRequest(labels, bundle, addressing, own_pictures), self._limits(upload)
        )
        if found is not None:
            record = feature_record(found, seed, {"encoding": time.perf_counter() - began})
            return TrainingReceipt(self.jobs.keep(record, feature_file(found, record), key=key).record, 0)
        resolved = resolve_pictures(
            self.library, pictures, addressing, bundle, self._limits(upload), own_pictures=own_pictures
        )
        spent = {"encoding": time.perf_counter() - began}
        if resolved.mode == "prototypes":
            return self._store_prototypes(resolved, spent, key)
        return self._train(resolved.queries, seed, key, resolved, spent)

    def drop_unused(self, seconds: float) -> None:
        """Forget loaded classifiers that nobody has used for so long."""
        self._loaded.drop_unused(seconds)
        self.explainer.drop_unused(seconds)

    def predict(
        self,
        identifier: str,
        pictures: Sequence[Picture],
        *,
        top: int | None = None,
        none_below: float = NONE_BELOW,
        upload: Upload = DIRECT,
    ) -> Predictions:
        """The prediction for each picture, in order. Raises NotFound and NotReady.

        Each prediction lists the `top` most probable classes; None lists all, up to some hundred. A picture that is
        less familiar than `none_below` is of none of the classes. While a classifier is trained from pictures, their
        prototypes predict in its place.
        """
        found = self.batches.predict_one(PredictionRequest(identifier, pictures, top, upload))
        return replace(found, none_below=none_below)

    def download(self, identifier: str, file_format: DownloadFormat) -> bytes:
        """The file of a trained classifier in this format. Raises NotFound and NotReady."""
        if file_format == "safetensors":
            return self.jobs.read(identifier)
        return self._loaded.finished(identifier).export_onnx()

    def classifier_card(self, identifier: str) -> str:
        """The card of a trained classifier, as Markdown. Raises NotFound and NotReady."""
        classifier = self._loaded.finished(identifier)
        record, library = self.jobs.get(identifier), self.library.bundles
        same = {
            each.name: found.bundle
            for each in record.bundles
            if (found := library.get(each.name)) is not None and found.sha256 == each.sha256
        }
        return classifier_card(record, classifier, same)

    def _recall(self, queries: Sequence[Query], options: RecallOptions) -> Recalled:
        limit = self.settings.max_recalled_numbers
        return recall(queries, per_label=options.per_label, seed=options.seed, max_numbers=limit)

    def _limits(self, upload: Upload) -> PictureLimits:
        return replace(self._picture_limits, upload=upload)

    def _known(self, key: IdempotencyKey | None) -> TrainingReceipt | None:
        """The receipt of a request that was made before under the same key; None for a new one."""
        record = None if key is None else self.jobs.known(key)
        return None if record is None else TrainingReceipt(record, 0)

    def _train(
        self,
        queries: Sequence[Query],
        seed: int,
        key: IdempotencyKey | None,
        resolved: ResolvedPictures | None = None,
        spent: Mapping[str, float] | None = None,
    ) -> TrainingReceipt:
        """Recall images for the queries and queue a training on them. `spent` are the seconds of earlier stages."""
        shared = shared_format([query.loaded.bundle for query in queries])
        pictures = [query.pixels for query in queries if query.pixels is not None]
        pictures_of_a_class = max(map(len, pictures), default=0)
        check_size(shared, len(queries), pictures_of_a_class, self.settings.max_recalled_numbers)
        began = time.perf_counter()
        training_set = build_training_set(list(map(bundle_query, queries)))
        training_set = add_own_pictures(training_set, pictures) if pictures else training_set
        spent = dict(spent or {}) | {"recalling": time.perf_counter() - began}
        record = request_record(queries, shared, seed, resolved).model_copy(update={"preparation": spent})
        interim = None if resolved is None else resolved.prototypes
        familiarity = label_familiarity(self.library, queries) if resolved is None else None
        task = request_task(training_set, record, interim, encoder=shared.feature_encoder, familiarity=familiarity)
        submitted = self.jobs.submit(record, task, key=key)
        work = len(queries) * shared.retraining.rows_per_class * shared.retraining.steps
        return TrainingReceipt(submitted.record, work if submitted.created else 0)

    def _store_prototypes(
        self, resolved: ResolvedPictures, spent: Mapping[str, float], key: IdempotencyKey | None
    ) -> TrainingReceipt:
        """Store the prototypes as a finished classifier."""
        assert resolved.prototypes is not None
        shared = shared_format([query.loaded.bundle for query in resolved.queries])
        record = request_record(resolved.queries, shared, 0, resolved).model_copy(
            update={"preparation": dict(spent), "network": PROTOTYPES}
        )
        return TrainingReceipt(self.jobs.keep(record, resolved.prototypes.to_bytes(), key=key).record, 0)
