"""Which recalled items moved a prediction: the head is retrained without each of them.

Nothing is kept for it in a classifier's file. What a memory recalls is determined by its file, so the items of a
classifier are recalled again from memories of the same digests, and the head that they give is compared with the
classifier's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from recall_server.core.classifier.feature_classifier import FeatureClassifier
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.heads.leave_one_out import LeaveOneOut, leave_one_out, log_odds
from recall_server.errors import InvalidRequest, NotReady, UnsupportedQuery
from recall_server.jobs.rows.records import ClassifierRecord
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library import Library
from recall_server.recall import DIRECT, BundleQuery, Picture, Upload, build_training_set
from recall_server.recall.uploads import from_bytes
from recall_server.service.batch_prediction import BatchPredictor, PredictionRequest
from recall_server.service.bounded_cache import BoundedCache
from recall_server.service.loaded_classifiers import LoadedClassifiers

CACHE_BYTES: Final = 2**28  # of the heads that stay computed
SAME_HEAD: Final = 1e-2  # of the weights' length: rounding, and joining heads on another machine, stay far below
ONLY_LABELS: Final = (
    "only classifiers of labels whose memories hold features can be explained: {reason}; "
    "train one from labels of a memory in the features of an encoder"
)


@final
@dataclass(frozen=True)
class Influence:
    """One recalled item: row `row` of what `bundle` recalls for the class `label`, counted from 0.

    `influence` is by how much the log-odds of the explained class fall when the head is trained without the item, and
    `probability_without` the probability of the class then.
    """

    label: str
    bundle: str
    row: int
    influence: float
    probability_without: float


@final
@dataclass(frozen=True)
class Explanation:
    """What spoke for and against `label`, the strongest first. `items` is the number of all items of the classifier."""

    label: str
    predicted: str
    probability: float
    log_odds: float
    items: int
    supporting: tuple[Influence, ...]
    opposing: tuple[Influence, ...]


class _Explained(NamedTuple):
    """A classifier that was trained again without each item, and the memory of each class."""

    left_out: LeaveOneOut
    bundles: tuple[str, ...]
    rows: int


@final
class Explainer:
    """Explains predictions of classifiers. Safe to use from several threads."""

    def __init__(
        self,
        loaded: LoadedClassifiers,
        jobs: TrainingJobs,
        batches: BatchPredictor,
        library: Callable[[], Library],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._loaded, self._jobs, self._batches, self._library = loaded, jobs, batches, library
        self._kept: BoundedCache[_Explained] = BoundedCache(cache_bytes)

    def explain(
        self,
        identifier: str,
        pictures: Sequence[Picture],
        *,
        label: str | None = None,
        top: int = 5,
        upload: Upload = DIRECT,
    ) -> Explanation:
        """Explain the probability of `label`, or of the most probable class, for one picture.

        Names the `top` items that spoke for the class, and as many that spoke against it. Raises NotFound; NotReady
        before the classifier is trained and where a memory of it is not loaded any more; UnsupportedQuery for a
        classifier that cannot be explained; InvalidRequest for another number of pictures and for an unknown label; and
        errors as `BatchPredictor.decode`.
        """
        classifier = self._loaded.finished(identifier)
        if not isinstance(classifier, FeatureClassifier):
            raise UnsupportedQuery(ONLY_LABELS.format(reason="this one is no linear head in features"))
        if len(pictures) != 1:
            raise InvalidRequest(f"send one picture, in a part named 'images', not {len(pictures)}", parameter="images")
        labels = classifier.labels
        if label is not None and label not in labels:
            raise InvalidRequest(_unknown(label, labels), parameter="label")
        explained = self._explained(identifier, classifier)
        pixels = self._batches.decode(PredictionRequest(identifier, pictures, 1, upload)).pixels
        assert pixels is not None
        features = torch.from_numpy(classifier.encoder.encode(from_bytes(pixels)))
        if not bool(features.isfinite().all()):
            raise UnsupportedQuery(f"the encoder {classifier.encoder.name} gives no finite numbers for this picture")
        seen = classifier.head.preprocessing.to_model(features[:, :, None, None]).flatten()
        return _explanation(explained, seen, labels, label, top)

    def drop_unused(self, seconds: float) -> None:
        """Forget the heads that nobody has asked for so long."""
        self._kept.drop_unused(seconds)

    def _explained(self, identifier: str, classifier: FeatureClassifier) -> _Explained:
        kept = self._kept.get(identifier)
        if kept is None:
            kept = _retrained(self._jobs.get(identifier), classifier, self._library())
            self._kept.put(identifier, kept, kept.left_out.size)
        return kept


def _retrained(record: ClassifierRecord, classifier: FeatureClassifier, library: Library) -> _Explained:
    """The classifier trained again without each item. Raises NotReady and UnsupportedQuery."""
    if record.queries != "labels":
        raise UnsupportedQuery(ONLY_LABELS.format(reason="this one was made from pictures, which are not kept"))
    queries = _queries(record, library)
    found = build_training_set(queries)
    try:
        stored = classifier.head.linear_head().weights.double()
        left_out = leave_one_out(found.images, found.targets, found.retraining, record.seed)
    except ValueError as error:
        raise UnsupportedQuery(f"this classifier cannot be explained: {error}") from error
    assert isinstance(found.preprocessing, Standardise), "the space of a linear head"
    again = left_out.weights()[0] / found.preprocessing.deviation
    if not float((again - stored).norm()) <= SAME_HEAD * float(stored.norm()):
        raise UnsupportedQuery(
            "this classifier cannot be explained: its memories now give another head, for it was trained by another "
            "version of the server; train it again"
        )
    return _Explained(left_out, tuple(query.bundle.manifest.name for query in queries), found.images.shape[1])


def _queries(record: ClassifierRecord, library: Library) -> list[BundleQuery]:
    """The queries of the classifier, to memories with the digests that it was trained from."""
    loaded = {}
    for each in record.bundles:
        found = library.bundles.get(each.name)
        if found is None or found.sha256 != each.sha256:
            raise NotReady(
                f"the classifier was trained from the memory {each.name!r} with sha256 {each.sha256[:12]}, which is "
                "not loaded any more; put its file back, or train a classifier from the memory that is loaded now"
            )
        loaded[each.name] = found
    queries = []
    for name in record.labels:
        prefix, _, label = name.rpartition(":")
        knowing = [each for each in loaded.values() if label in each.bundle.labels and prefix in ("", each.name)]
        if len(knowing) != 1:
            raise UnsupportedQuery(
                f"this classifier cannot be explained: several of its memories know {label!r}, and which of them was "
                "used is not recorded; train one with labels of a single memory"
            )
        (vector,) = knowing[0].bundle.label_queries([label])
        queries.append(BundleQuery(knowing[0].bundle, vector, knowing[0].pretrained, knowing[0].feature_encoder))
    return queries


def _explanation(
    explained: _Explained, features: Tensor, labels: Sequence[str], label: str | None, top: int
) -> Explanation:
    logits, without = explained.left_out.logits(features)
    predicted = labels[int(logits.argmax())]
    position = labels.index(predicted if label is None else label)
    odds, odds_without = log_odds(logits, position), log_odds(without, position)
    influences = odds - odds_without
    probabilities = odds_without.sigmoid()

    def entries(positions: Tensor) -> tuple[Influence, ...]:
        return tuple(
            Influence(
                labels[at // explained.rows],
                explained.bundles[at // explained.rows],
                at % explained.rows,
                float(influences[at]),
                float(probabilities[at]),
            )
            for at in positions.tolist()[:top]
        )

    order = influences.argsort(descending=True, stable=True)
    opposing = order.flip(0)
    return Explanation(
        labels[position],
        predicted,
        float(odds.sigmoid()),
        float(odds),
        len(influences),
        entries(order[influences[order] > 0]),
        entries(opposing[influences[opposing] < 0]),
    )


def _unknown(label: str, labels: Sequence[str]) -> str:
    near = difflib.get_close_matches(label, labels)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {len(labels)}, as {labels[0]!r}"
    return f"the classifier has no class {label[:200]!r}; {hint}"
