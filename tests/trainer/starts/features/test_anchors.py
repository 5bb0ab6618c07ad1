"""Anchors: what a head learns beside them, and which memories may be some."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recall_server.core.bundle.manifest import EncoderReference
from recall_server.core.preprocessing import Standardise
from recall_server.errors import NotFound
from tests.recall_server.bundle_examples import example_bundle
from tests.tolerances import assert_close
from tests.trainer.run.federated.client_examples import MEANS, SPACE, WIDTH, client_bundle, labelled
from trainer.starts.features.anchors import DRAWN, Anchors
from trainer.starts.features.described_classes import best_exact, best_head
from trainer.starts.features.drawn_features import drawn_features

ENCODER = SimpleNamespace(sha256="0" * 64, image_shape=(3, 8, 8))


def read(path: Path, space: Standardise = SPACE) -> Anchors:
    return Anchors.read(path, ENCODER).within(space)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = client_bundle({"ant": 60, "bee": 60})
    ENCODER.image_shape = made.manifest.image.shape
    made.save(tmp_path / "public.safetensors")
    return tmp_path / "public.safetensors"


def test_anchors_look_like_the_classes_of_the_memory(path: Path) -> None:
    found = read(path)
    assert found.classes == 2 and len(found.data.labels) == 2 * DRAWN
    means = torch.stack([found.data.features[found.data.labels == label].mean(dim=0) for label in range(2)])
    assert (torch.nn.functional.normalize(means, dim=1) @ MEANS.T).argmax(dim=1).tolist() == [0, 1]
    again = read(path)
    assert torch.equal(again.data.features, found.data.features), "all clients have the same"


def test_drawn_features_have_the_deviations_of_their_class() -> None:
    memory = client_bundle({"ant": 200, "bee": 200}).memory
    labels = torch.arange(2).repeat_interleave(20_000)
    drawn = drawn_features(memory, labels, torch.Generator().manual_seed(0)) @ memory.bases.T  # type: ignore[arg-type]
    own = torch.stack([drawn[labels == label].std(dim=0) for label in range(2)])
    wanted = memory.tensors()["deviations"]
    assert float((own - wanted).abs().max()) < 5 * float(wanted.max()) / 20_000**0.5, "five standard errors"


def test_a_head_beside_anchors_says_how_its_classes_differ_from_them(path: Path) -> None:
    anchors, data = read(path), labelled({"cat": 60, "dog": 60}, seed=1)
    head = best_head(data, data, 2, bias=False, anchors=anchors).head
    assert float((data.features @ head.weights.T).max(dim=1).values.min()) > 0, "nearer to the class than to anchors"
    assert float((anchors.data.features @ head.weights.T).max()) < 0
    assert float(best_head(data, data, 2, bias=False).head.weights.sum(dim=0).abs().max()) < 1e-4


def test_the_memory_keeps_what_its_columns_have_in_common(path: Path) -> None:
    anchors, data = read(path), labelled({"cat": 60, "dog": 60}, seed=1)
    found = best_exact(data, data, SPACE, 2, numbers=10_000, anchors=anchors)
    stored = found.retraining.learning_rate / 2 * found.memory.items(torch.eye(2))[:, 0]
    assert_close(stored, found.head.weights, terms=WIDTH, gain=10)
    assert float(stored.sum(dim=0).norm()) > float(stored.norm()) / 10
    with pytest.raises(ValueError, match="needs a budget that describes its classes"):
        best_exact(data, data, SPACE, 2, numbers=3 * WIDTH, anchors=anchors)


def test_memories_that_cannot_be_anchors_are_refused(path: Path, tmp_path: Path) -> None:
    example_bundle().save(tmp_path / "pixels.safetensors")
    with pytest.raises(ValueError, match=r"pixels\.safetensors cannot be anchors: it is no memory of features"):
        read(tmp_path / "pixels.safetensors")
    other = EncoderReference(file="e.onnx", sha256="1" * 64, query_size=WIDTH)
    client_bundle({"ant": 9, "bee": 9}, feature_encoder=other).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="made with another encoder or size of pictures"):
        read(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="features have length one"):
        read(path, Standardise(torch.ones(WIDTH), torch.ones(WIDTH)))
    with pytest.raises(NotFound):
        read(tmp_path / "missing.safetensors")
