"""A request for a classifier, once its queries are known: the record that is kept of it, and the task of a worker."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from torch import Tensor

from recall_server.core.classifier.expected_accuracy import (
    Quality,
    no_estimate_reason,
    quality_of_labels,
    quality_of_pictures,
)
from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.core.encoders.novelty import STRANGE
from recall_server.core.io.tensor_file import canonical_json
from recall_server.jobs.rows.records import BundleIdentity, ClassifierRecord, ImageSize, now
from recall_server.jobs.rows.task import TaskDescription, TrainingTask
from recall_server.library.library import LoadedBundle
from recall_server.recall.addressing import ResolvedPictures
from recall_server.recall.queries import Query
from recall_server.recall.training_set import SharedFormat, TrainingSet


def request_record(
    queries: Sequence[Query], place: SharedFormat, seed: int, addressed: ResolvedPictures | None = None
) -> ClassifierRecord:
    """What is known before the training begins, for queries that meet there; `addressed` where they were pictures."""
    loaded = {query.loaded.name: query.loaded for query in queries}
    leading = next(each for each in loaded.values() if each.bundle is place.bundles[0])
    labels = tuple(query.name for query in queries)
    shown = {query.name: query.features for query in queries if query.features is not None}
    channels, height, width = place.image_shape
    return ClassifierRecord(
        id=uuid.uuid4().hex,
        labels=labels,
        bundle=_identity(leading),
        bundles=tuple(map(_identity, loaded.values())),
        queries="images" if shown else "labels",
        pictures={name: len(each) for name, each in shown.items()} or None,
        image=ImageSize(channels=channels, height=height, width=width),
        network=str(place.retraining.network),
        seed=seed,
        quality=_quality(queries, shown),
        addressing=None if addressed is None else addressed.way,
        out_of_set={query.name: query.out_of_set for query in queries if query.out_of_set is not None} or None,
        notes=_notes(queries, addressed),
        created_at=now(),
    )


def _notes(queries: Sequence[Query], addressed: ResolvedPictures | None) -> tuple[str, ...]:
    used = dict.fromkeys(query.loaded.name for query in queries)
    notes = [no_estimate_reason(list(used))] if len(used) > 1 else []
    notes += [addressed.why] if addressed is not None else []
    notes += [
        f"The memory {query.loaded.name} knows nothing like the pictures of {query.name}: {query.out_of_set:.0%} of "
        "the pictures of its own data are nearer to what it knows. What it recalls for them is a guess."
        for query in queries
        if query.out_of_set is not None and query.out_of_set >= STRANGE
    ]
    return tuple(notes)


def _quality(queries: Sequence[Query], shown: Mapping[str, Tensor]) -> Quality | None:
    """None for labels of several bundles, too: nobody has measured how often one is taken for another."""
    if shown:
        return quality_of_pictures(shown)
    manifests = [query.loaded.bundle.manifest for query in queries]
    if any(manifest is not manifests[0] for manifest in manifests):
        return None
    return quality_of_labels(manifests[0], [query.name for query in queries])


def _identity(loaded: LoadedBundle) -> BundleIdentity:
    return BundleIdentity(name=loaded.name, sha256=loaded.sha256)


def request_task(
    met: TrainingSet, record: ClassifierRecord, interim: PrototypeClassifier | None = None
) -> TrainingTask:
    """What a worker needs: the same bytes for the same request, or two equal ones would be trained twice."""
    metadata = {"bundle": record.bundle.name, "bundle_sha256": record.bundle.sha256, "queries": record.queries}
    if len(record.bundles) > 1:
        metadata["bundles"] = canonical_json([each.model_dump() for each in record.bundles])
    return TrainingTask(
        images=met.images,
        targets=met.targets,
        preprocessing=met.preprocessing,
        description=TaskDescription(
            labels=record.labels,
            preprocessing=met.preprocessing.kind,
            retraining=met.retraining,
            seed=record.seed,
            metadata=metadata,
        ),
        interim=b"" if interim is None else interim.to_bytes(),
        pretrained=met.pretrained,
    )
