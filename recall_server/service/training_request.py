"""What a training request becomes once its queries are known: a record, and a task for a worker."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.classifier.expected_accuracy import (
    Quality,
    no_estimate_reason,
    quality_of_labels,
    quality_of_pictures,
)
from recall_server.core.classifier.familiarity import Familiarity
from recall_server.core.classifier.feature_classifier import ENCODER_SHA256, PICTURE_SIZE
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.core.encoders.query_novelty import STRANGE
from recall_server.core.io.tensor_file import canonical_json
from recall_server.errors import InvalidRequest
from recall_server.jobs.rows.records import BundleIdentity, ClassifierRecord, ImageSize, now
from recall_server.jobs.rows.task import TaskDescription, TrainingTask
from recall_server.library import LoadedBundle
from recall_server.recall import BundleQuery, Query, ResolvedPictures, SharedFormat, TrainingSet


def bundle_query(query: Query) -> BundleQuery:
    """The query as the training set takes it."""
    loaded = query.loaded
    return BundleQuery(loaded.bundle, query.vector, loaded.pretrained, loaded.feature_encoder)


MOST_NAME_BYTES = 2**16  # of all classes of a classifier: its record holds each name several times


def check_classes(names: Collection[str], most: int, parameter: str | None) -> None:
    """Raise InvalidRequest for fewer than two names, and as `check_names`."""
    if len(names) < 2:
        raise InvalidRequest(
            "a classifier tells classes apart, so it needs two or more; "
            f"this request names {'one' if names else 'none'}",
            parameter=parameter,
        )
    check_names(names, most, parameter)


def check_names(names: Collection[str], most: int, parameter: str | None) -> None:
    """Raise InvalidRequest for more than `most` names, or for more than MOST_NAME_BYTES in all."""
    if len(names) > most:
        raise InvalidRequest(f"{len(names)} classes are more than the {most} of one classifier", parameter=parameter)
    size = sum(len(name.encode(errors="replace")) for name in names)
    if size > MOST_NAME_BYTES:
        raise InvalidRequest(
            f"the names of the classes have {size:,} bytes, more than the {MOST_NAME_BYTES:,} of one classifier; "
            "use shorter names",
            parameter=parameter,
        )


def check_size(shared: SharedFormat, classes: int, pictures: int, most: int) -> None:
    """Raise InvalidRequest for a training set of more than `most` numbers; `pictures` are in its largest class."""
    numbers = classes * (shared.rows + pictures) * math.prod(shared.image_shape)
    if numbers > most:
        raise InvalidRequest(
            f"training on {classes} classes takes {numbers:,} numbers of images, more than the {most:,} of one "
            "request; ask for fewer classes"
        )


def request_record(
    queries: Sequence[Query], shared: SharedFormat, seed: int, resolved: ResolvedPictures | None = None
) -> ClassifierRecord:
    """The record of a new job, for queries of that common format. `resolved` is given if they are pictures."""
    loaded = {query.loaded.name: query.loaded for query in queries}
    leading = next(each for each in loaded.values() if each.bundle is shared.bundles[0])
    labels = tuple(query.name for query in queries)
    features = {query.name: query.features for query in queries if query.features is not None}
    channels, height, width = shared.picture_shape
    return ClassifierRecord(
        id=uuid.uuid4().hex,
        labels=labels,
        bundle=bundle_identity(leading),
        bundles=tuple(map(bundle_identity, loaded.values())),
        queries="images" if features else "labels",
        pictures={name: len(each) for name, each in features.items()} or None,
        image=ImageSize(channels=channels, height=height, width=width),
        network=str(shared.retraining.network),
        seed=seed,
        quality=_quality(queries, features),
        addressing=None if resolved is None else resolved.mode,
        out_of_set={query.name: query.out_of_set for query in queries if query.out_of_set is not None} or None,
        notes=request_notes(queries, None if resolved is None else resolved.explanation),
        created_at=now(),
    )


def request_notes(queries: Sequence[Query], explanation: str | None) -> tuple[str, ...]:
    """What users of the classifier should know; `explanation` is of how pictures were used."""
    bundles = list(dict.fromkeys(query.loaded.name for query in queries))
    notes = [no_estimate_reason(bundles)] if len(bundles) > 1 else []
    notes += [
        f"{query.name} was taken from {query.loaded.name}; {' and '.join(query.other_bundles)} know it, too."
        if len(query.other_bundles) > 1
        else f"{query.name} was taken from {query.loaded.name}; {query.other_bundles[0]} knows it, too."
        for query in queries
        if query.other_bundles
    ]
    notes += [explanation] if explanation is not None else []
    notes += [
        f"The memory {query.loaded.name} knows nothing like the pictures of {query.name}: only "
        f"{1 - query.out_of_set:.0%} of its own pictures are less like its data. What it recalls for them is a guess."
        for query in queries
        if query.out_of_set is not None and query.out_of_set >= STRANGE
    ]
    return tuple(notes)


def _quality(queries: Sequence[Query], features: Mapping[str, Tensor]) -> Quality | None:
    """The estimated accuracy; None for labels of several bundles, whose confusions were never measured."""
    if features:
        return quality_of_pictures(features)
    manifests = [query.loaded.bundle.manifest for query in queries]
    if any(manifest is not manifests[0] for manifest in manifests):
        return None
    return quality_of_labels(manifests[0], [query.name for query in queries])


def bundle_identity(loaded: LoadedBundle) -> BundleIdentity:
    return BundleIdentity(name=loaded.name, sha256=loaded.sha256)


def request_task(
    training_set: TrainingSet,
    record: ClassifierRecord,
    interim: PrototypeClassifier | None = None,
    *,
    encoder: EncoderReference | None = None,
    familiarity: Familiarity | None = None,
) -> TrainingTask:
    """The task for a worker. Equal requests give equal bytes, so that they share one training."""
    metadata = {"bundle": record.bundle.name, "bundle_sha256": record.bundle.sha256, "queries": record.queries}
    if len(record.bundles) > 1:
        metadata["bundles"] = canonical_json([each.model_dump() for each in record.bundles])
    if encoder is not None:
        metadata |= {ENCODER_SHA256: encoder.sha256, PICTURE_SIZE: str(record.image.height)}
    return TrainingTask(
        images=training_set.images,
        targets=training_set.targets,
        preprocessing=training_set.preprocessing,
        description=TaskDescription(
            labels=record.labels,
            preprocessing=training_set.preprocessing.kind,
            retraining=training_set.retraining,
            seed=record.seed,
            metadata=metadata,
        ),
        interim=b"" if interim is None else interim.to_bytes(),
        pretrained=training_set.pretrained,
        familiarity=familiarity,
    )
