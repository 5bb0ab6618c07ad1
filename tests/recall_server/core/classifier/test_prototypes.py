"""The nearest class mean as a classifier of its own: what it says, and that it says the same wherever it is taken."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.prototypes import PrototypeClassifier
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidRequest
from tests.recall_server.serving_examples import column_encoder, picture
from tests.tolerances import assert_close


@pytest.fixture
def encoder(tmp_path: Path) -> QueryEncoder:
    data = column_encoder()
    (tmp_path / "columns.onnx").write_bytes(data)
    return QueryEncoder(tmp_path / "columns.onnx", hashlib.sha256(data).hexdigest(), device="cpu")


def pixels(label: str, count: int, *, seed: int) -> Tensor:
    shown = np.stack([picture(label, seed + number) for number in range(count)])[:, None]
    return torch.from_numpy(shown.astype(np.float32) / 255)


def shown(encoder: QueryEncoder, *labels: str, count: int = 4) -> dict[str, Tensor]:
    return {label: torch.from_numpy(encoder.encode(pixels(label, count, seed=50).numpy())) for label in labels}


def test_a_picture_belongs_to_the_nearest_class_mean(encoder: QueryEncoder) -> None:
    generator = torch.Generator().manual_seed(4)
    examples = {
        name: each + torch.randn(each.shape, generator=generator)
        for name, each in shown(encoder, "left", "right", "middle").items()
    }
    classifier = PrototypeClassifier.of(examples, encoder)
    asked = torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    probabilities = classifier.predict_probabilities(asked)
    assert_close(probabilities.sum(dim=1), torch.ones(70), terms=3)
    means = torch.stack([each.mean(dim=0) for each in examples.values()])
    distances = torch.cdist(torch.from_numpy(encoder.encode(asked.numpy())), means)
    assert torch.equal(probabilities.argmax(dim=1), distances.argmin(dim=1))
    assert len(set(probabilities.argmax(dim=1).tolist())) > 1, "an example in which all are one class shows nothing"
    odds = (probabilities[:, :1] / probabilities[:, 1:]).log()  # proportional to differences of squared distances
    farther = distances[:, 1:].square() - distances[:, :1].square()
    told = odds.abs() < 10  # beyond that, a probability has rounded to nothing
    assert told.sum() > 10
    slope = (odds / farther)[told].median()
    assert_close(odds[told], slope * farther[told], terms=64, size=float(slope * distances.square().max()))


def test_a_prototype_classifier_is_equal_after_serialisation_and_as_onnx(encoder: QueryEncoder) -> None:
    classifier = PrototypeClassifier.of(shown(encoder, "left", "right"), encoder)
    again = PrototypeClassifier.from_bytes(classifier.to_bytes())
    assert (again.labels, again.image_shape) == (("left", "right"), (1, 8, 8))
    assert again.to_bytes() == classifier.to_bytes()
    session = onnxruntime.InferenceSession(again.export_onnx())
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == ["left", "right"]
    asked = pixels("right", 3, seed=7)
    (probabilities,) = session.run(["probabilities"], {"images": asked.numpy()})
    assert_close(probabilities, classifier.predict_probabilities(asked).numpy(), terms=64, size=1)
    assert (probabilities[:, 1] > 0.9).all()
    with pytest.raises(ValueError):
        PrototypeClassifier.from_bytes(b"something else")


def test_one_picture_of_each_class_is_enough(encoder: QueryEncoder) -> None:
    classifier = PrototypeClassifier.of(shown(encoder, "left", "right", count=1), encoder)
    probabilities = classifier.predict_probabilities(pixels("left", 5, seed=90))
    assert bool(probabilities.isfinite().all())
    assert bool((probabilities[:, 0] > 0.5).all())


def test_classes_of_the_same_pictures_are_refused(encoder: QueryEncoder) -> None:
    examples = shown(encoder, "left", "right")
    with pytest.raises(InvalidRequest, match="'left' and 'copy' look the same to the encoder"):
        PrototypeClassifier.of(examples | {"copy": examples["left"].clone()}, encoder)


class CountedSessions:
    """Stands in for onnxruntime.InferenceSession: counts sessions, and how many are created at the same time."""

    def __init__(self) -> None:
        self.created = self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        self._create = onnxruntime.InferenceSession

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self._lock:
            self.created += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(0.05)
        session = self._create(*arguments, **options)
        with self._lock:
            self._at_once -= 1
        return session


@pytest.fixture
def sessions(encoder: QueryEncoder, monkeypatch: pytest.MonkeyPatch) -> CountedSessions:
    """Counts from the moment at which the encoder has its session."""
    counted = CountedSessions()
    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    return counted


def test_predictions_at_the_same_time_share_one_session(encoder: QueryEncoder, sessions: CountedSessions) -> None:
    classifier = PrototypeClassifier.of(shown(encoder, "left", "right"), encoder)
    asked = pixels("left", 3, seed=900)
    with ThreadPoolExecutor(4) as threads:
        predictions = list(threads.map(classifier.predict_probabilities, [asked] * 8))
    assert sessions.created == 1
    assert all(torch.equal(each, predictions[0]) for each in predictions)


def test_sessions_of_several_classifiers_are_created_one_after_the_other(
    encoder: QueryEncoder, sessions: CountedSessions
) -> None:
    classifiers = [PrototypeClassifier.of(shown(encoder, "left", "right"), encoder) for _ in range(4)]
    asked = pixels("left", 1, seed=900)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda each: each.predict_probabilities(asked), classifiers))
    assert (sessions.created, sessions.most_at_once) == (4, 1)
