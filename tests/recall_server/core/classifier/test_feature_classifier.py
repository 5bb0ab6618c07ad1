"""A head and its encoder predict as one, here and in the ONNX model that is taken away."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.familiarity import Familiarity
from recall_server.core.classifier.feature_classifier import FeatureClassifier
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.networks import NetworkSpec
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.errors import InvalidBundle
from tests.tolerances import assert_close
from tests.trainer.data.encoders.test_standard_form import SCALING, SIZE, WIDTH, description, tower
from trainer.data.encoders.standard_form import standard_form

SCHEDULE = Retraining(network=NetworkSpec(architecture="linear"), steps=30, learning_rate=0.1, rows_per_class=2)


def encoder(folder: Path) -> QueryEncoder:
    data = standard_form(tower(), SCALING, description())
    (folder / "tower.onnx").write_bytes(data)
    return QueryEncoder(folder / "tower.onnx", hashlib.sha256(data).hexdigest(), image_shape=(3, SIZE, SIZE))


def head(width: int = WIDTH) -> FreshClassifier:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 4, width, 1, 1, generator=generator)
    space = Standardise(torch.zeros(width), torch.full((width,), 5.0))
    return FreshClassifier(["a", "b", "c"], (width, 1, 1), space, SCHEDULE).fit(features, torch.eye(3))


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


def has_automatic_padding(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "auto_pad" for attribute in node.attribute)


def test_predictions_are_those_of_the_head_on_the_features(tmp_path: Path) -> None:
    both = FeatureClassifier(head(), encoder(tmp_path))
    features = torch.from_numpy(both.encoder.encode(pictures(5).numpy()))
    expected = both.head.predict_probabilities(features[:, :, None, None])
    assert torch.equal(both.predict_probabilities(pictures(5)), expected)
    assert both.predict_probabilities(pictures(0)).shape == (0, 3)


def test_the_exported_model_gives_the_same_probabilities(tmp_path: Path) -> None:
    both = FeatureClassifier(head(), encoder(tmp_path))
    session = onnxruntime.InferenceSession(both.export_onnx(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["N", 3, SIZE, SIZE]
    found = session.run(["probabilities"], {"images": pictures(4).numpy()})[0]
    assert_close(np.asarray(found), both.predict_probabilities(pictures(4)).numpy(), terms=75 * SIZE * SIZE, gain=10)
    assert not [
        node for node in onnx.load_model_from_string(both.export_onnx()).graph.node if has_automatic_padding(node)
    ]
    assert session.get_modelmeta().custom_metadata_map["labels"] == '["a","b","c"]'


@pytest.mark.parametrize("rows", [3, 7])
def test_the_exported_model_says_how_familiar_a_picture_is(tmp_path: Path, rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = LinearHead(torch.randn(rows, WIDTH, generator=generator), torch.randn(rows, generator=generator))
    both = FeatureClassifier(head(), encoder(tmp_path))
    both.head.familiarity = Familiarity(scores, 3, midpoint=0.5, slope=0.3)
    session = onnxruntime.InferenceSession(both.export_onnx(), providers=["CPUExecutionProvider"])
    found = session.run(["familiarity"], {"images": pictures(4).numpy()})[0]
    expected = both.familiarity(torch.from_numpy(both.encoder.encode(pictures(4).numpy())))
    assert expected is not None
    assert_close(np.asarray(found)[:, 0], expected.numpy(), terms=75 * SIZE * SIZE, gain=10)


def test_a_head_for_other_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes 7 features, but the encoder gives 24"):
        FeatureClassifier(head(7), encoder(tmp_path))


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be \[N, 3, 8, 8\], not \[1, 3, 9, 9\]"):
        FeatureClassifier(head(), encoder(tmp_path)).predict_probabilities(torch.zeros(1, 3, 9, 9))


def test_a_head_without_a_training_survives_a_file_with_its_familiarity(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = LinearHead(torch.randn(3, WIDTH, generator=generator), torch.randn(3, generator=generator))
    made = FreshClassifier.of_head(["a", "b", "c"], scores)
    made.familiarity = Familiarity(scores, 3, midpoint=1.0, slope=2.0)
    made.save(tmp_path / "head.safetensors")
    loaded = FreshClassifier.load(tmp_path / "head.safetensors")
    features = torch.randn(4, WIDTH, generator=generator)
    assert_close(
        loaded.predict_probabilities(features[:, :, None, None]), scores.logits(features).softmax(dim=1), terms=WIDTH
    )
    assert loaded.familiarity is not None
    assert torch.equal(loaded.familiarity.of(features), made.familiarity.of(features))


def test_a_familiarity_of_other_features_is_refused(tmp_path: Path) -> None:
    made = head()
    made.familiarity = Familiarity(LinearHead(torch.zeros(3, 7), torch.zeros(3)), 3, midpoint=0.0, slope=1.0)
    made.save(tmp_path / "head.safetensors")
    with pytest.raises(InvalidBundle, match=f"not that of {WIDTH} features"):
        FreshClassifier.load(tmp_path / "head.safetensors")
