"""What pictures of classes become in the features of an encoder: a record of a finished classifier, and its file."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from recall_server.core.classifier.expected_accuracy import Quality
from recall_server.core.classifier.feature_classifier import ENCODER_SHA256, PICTURE_SIZE
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.io.tensor_file import canonical_json
from recall_server.jobs.rows.records import BundleIdentity, ClassifierRecord, ImageSize, LeftOut, PictureWay, now
from recall_server.recall.features.picture_heads import PictureHead
from recall_server.service.training_request import bundle_identity, request_notes

NETWORK = "linear"
EXPLANATION = (
    "An estimate, not a test of this classifier: {pictures} pictures were left out in turn, and this is how often the "
    "way that was chosen gave them their own class. It is slightly too high, for the way was chosen by it."
)


def feature_record(found: PictureHead, seed: int, spent: Mapping[str, float]) -> ClassifierRecord:
    """The record of the finished classifier. `spent` are seconds by stage."""
    channels, height, width = found.space.encoder.image_shape
    known = found.space.known
    helper = (
        BundleIdentity(name=found.space.encoder.name, sha256=found.space.encoder.sha256)
        if known is None
        else bundle_identity(known.loaded)
    )
    asked = {query.loaded.name: bundle_identity(query.loaded) for query in found.queries}
    ways: dict[PictureWay, LeftOut] = {
        way: LeftOut(right=int(right.sum()), pictures=len(right)) for way, right in found.made.right.items()
    }
    return ClassifierRecord(
        id=uuid.uuid4().hex,
        labels=found.labels,
        bundle=helper,
        bundles=tuple(asked.values()) or (helper,),
        queries="images",
        pictures=found.counts,
        image=ImageSize(channels=channels, height=height, width=width),
        network=NETWORK,
        seed=seed,
        quality=_quality(found),
        addressing=found.made.way,
        ways=ways or None,
        notes=request_notes(found.queries, found.explanation),
        preparation=dict(spent),
        created_at=now(),
    )


def feature_file(found: PictureHead, record: ClassifierRecord) -> bytes:
    """The classifier's file. Equal heads of the same encoder give equal bytes."""
    classifier = FreshClassifier.of_head(found.labels, found.made.head)
    classifier.familiarity = found.familiarity
    metadata = {
        "bundle": record.bundle.name,
        "bundle_sha256": record.bundle.sha256,
        "queries": record.queries,
        "addressing": found.made.way,
        ENCODER_SHA256: found.space.encoder.sha256,
        PICTURE_SIZE: str(record.image.height),
    }
    if len(record.bundles) > 1:
        metadata["bundles"] = canonical_json([each.model_dump() for each in record.bundles])
    return classifier.to_bytes(metadata)


def _quality(found: PictureHead) -> Quality | None:
    """How often the chosen way was right of pictures left out; None if nothing was compared."""
    if not found.made.right:
        return None
    right = found.made.right[found.made.way]
    per_label = {label: float(right[found.members == index].mean()) for index, label in enumerate(found.counts)}
    return Quality(
        accuracy=sum(per_label.values()) / len(per_label),
        source="pictures",
        per_label=per_label,
        counts=found.counts,
        explanation=EXPLANATION.format(pictures=f"the {len(right)}"),
    )
