"""The file of a classifier: canonical bytes, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import METADATA_KEY, FreshClassifier
from recall_server.core.io.tensor_file import canonical_json, pack, parse_json, unpack
from recall_server.core.preprocessing import ZCA, AbstractPreprocessing, Spectral
from recall_server.errors import InvalidBundle, NotFound, StorageFailed
from tests.recall_server.core.classifier.test_fresh_classifier import (
    LABELS,
    PREPROCESSING,
    SHAPE,
    make_fitted,
    make_pictures,
    make_recalled,
    make_retraining,
)

Edit = Callable[[dict[str, Tensor], dict[str, object]], None]


@pytest.mark.parametrize("augmentation", ["none", "flip+rotate"])
def test_the_same_inputs_and_seed_give_the_same_bytes(tmp_path: Path, augmentation: str) -> None:
    state = torch.get_rng_state()
    digests = []
    for number, seed in enumerate([4, 4, 5]):
        path = tmp_path / f"{number}.safetensors"
        make_fitted(seed=seed, augmentation=augmentation).save(path, {"request": "same"})
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "preprocessing",
    [PREPROCESSING, ZCA.fit(make_pictures(20)[0], directions=9), Spectral.fit(make_pictures(20)[0])],
    ids=lambda preprocessing: preprocessing.kind,
)
def test_a_saved_classifier_is_loaded_unchanged(tmp_path: Path, preprocessing: AbstractPreprocessing) -> None:
    pixels, _ = make_pictures(20)
    classifier = FreshClassifier(LABELS, SHAPE, preprocessing, make_retraining(), seed=7)
    classifier.fit(make_recalled(preprocessing=preprocessing), torch.eye(3))
    classifier.save(tmp_path / "one.safetensors", {"bundle": "animals"})
    loaded = FreshClassifier.load(tmp_path / "one.safetensors")
    assert (loaded.labels, loaded.image_shape, loaded.retraining, loaded.seed) == (LABELS, SHAPE, make_retraining(), 7)
    assert loaded.extra == {"bundle": "animals"}
    assert torch.equal(loaded.predict_probabilities(pixels), classifier.predict_probabilities(pixels))
    loaded.save(tmp_path / "two.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() == (tmp_path / "one.safetensors").read_bytes()


def test_the_file_is_safetensors_with_one_canonical_text(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    make_fitted().save(path, {"note": "é"})
    with safe_open(path, "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    assert {"network.classifier.weight", "preprocessing.mean"} <= names
    assert list(metadata) == [METADATA_KEY]
    assert metadata[METADATA_KEY] == canonical_json(parse_json(metadata[METADATA_KEY]))
    assert '"extra":{"note":"é"}' in metadata[METADATA_KEY]


def test_a_place_that_cannot_be_written_to_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        make_fitted().save(tmp_path / "file" / "one.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no classifier gone\.safetensors"):
        FreshClassifier.load(tmp_path / "gone.safetensors")


def _drop(name: str) -> Edit:
    return lambda tensors, header: tensors.__delitem__(name)


def _put(name: str, value: Tensor) -> Edit:
    return lambda tensors, header: tensors.__setitem__(name, value)


def _say(key: str, value: object) -> Edit:
    return lambda tensors, header: header.__setitem__(key, value)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_drop("network.classifier.bias"), "not exactly those of convnet:filters=8,depth=2"),
        (_drop("preprocessing.mean"), "the tensor preprocessing.mean is missing"),
        (_put("network.more.weight", torch.zeros(1)), "not exactly those of"),
        (_put("preprocessing.more", torch.zeros(1)), "not exactly those of"),
        (_put("stray", torch.zeros(1)), "not exactly those of"),
        (_put("network.classifier.bias", torch.zeros(4)), "not exactly those of"),
        (_put("network.classifier.bias", torch.tensor([0.0, float("nan"), 0.0])), "not finite"),
        (_put("network.classifier.bias", torch.zeros(3, dtype=torch.float16)), "type F16"),
        (_put("preprocessing.deviation", torch.zeros(1)), "deviation must lie between"),
        (_say("format_version", 2), "format_version"),
        (_say("labels", ["bear", "deer"]), "not exactly those of"),
        (_say("labels", ["bear", "deer", "deer"]), "two or more distinct labels"),
        (_say("image_shape", [1, 8]), "channels, height and width"),
        (_say("image_shape", [1, 8, 10**9]), "less than or equal to 65536"),
        (_say("preprocessing", "magic"), "'magic' is not one of standardise, zca, projected, spectral"),
        (_say("more", 1), "Extra inputs"),
    ],
)
def test_a_file_that_is_not_exactly_a_classifier_is_refused(tmp_path: Path, edit: Edit, says: str) -> None:
    path = tmp_path / "bad.safetensors"
    make_fitted().save(path)
    tensors, text = unpack(path.read_bytes(), key=METADATA_KEY)
    header = parse_json(text)
    edit(tensors, header)
    path.write_bytes(pack(tensors, key=METADATA_KEY, text=canonical_json(header)))
    with pytest.raises(InvalidBundle, match=says) as caught:
        FreshClassifier.load(path)
    assert str(caught.value).startswith("bad.safetensors cannot be loaded as a classifier: ")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no tensors here", b"\x80\x04\x95pickle"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidBundle, match=r"bad\.safetensors cannot be loaded as a classifier"):
        FreshClassifier.load(path)
