"""Every source of pictures gives features as well: the same splits, the digest of data and encoder, nothing scaled."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidDataset
from tests.trainer.data.encoders.test_standard_form import SCALING, SIZE, WIDTH, description, tower
from tests.trainer.data_examples import bars_data, picture_folder
from trainer.data.datasets import load_dataset
from trainer.data.encoders.standard_form import standard_form
from trainer.data.features import EncodingProgress, Featuriser


@pytest.fixture
def featuriser(tmp_path: Path) -> Featuriser:
    data = standard_form(tower(), SCALING, description())
    (tmp_path / "tower.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    encoder = QueryEncoder(tmp_path / "tower.onnx", digest, image_shape=(3, SIZE, SIZE), device="cpu")
    return Featuriser(encoder)


def test_arrays_give_the_features_of_their_pictures_in_the_same_splits(tmp_path: Path, featuriser: Featuriser) -> None:
    pixels = load_dataset(str(bars_data(tmp_path)))
    features = load_dataset(str(tmp_path), featuriser=featuriser)
    assert torch.equal(features.validation.images, featuriser(pixels.validation.images))
    assert torch.equal(features.train.labels, pixels.train.labels)
    assert features.image_shape == (WIDTH, 1, 1)


def test_features_are_not_scaled_to_0_1(tmp_path: Path, featuriser: Featuriser) -> None:
    features = load_dataset(str(bars_data(tmp_path)), featuriser=featuriser)
    assert torch.equal(features.test.pixels(), features.test.images.float())


def test_the_digest_names_the_encoder(tmp_path: Path, featuriser: Featuriser) -> None:
    pixels = load_dataset(str(bars_data(tmp_path)))
    features = load_dataset(str(tmp_path), featuriser=featuriser)
    assert features.digest == featuriser.digest(pixels.digest) != pixels.digest


def test_pictures_of_a_folder_are_decoded_at_the_size_of_the_encoder(tmp_path: Path, featuriser: Featuriser) -> None:
    folder = picture_folder(tmp_path / "data", "a", "b", each=10, height=20, width=30)
    pixels = load_dataset(str(folder), image_size=SIZE)
    features = load_dataset(str(folder), featuriser=featuriser)
    assert torch.equal(features.test.images, featuriser(pixels.test.images))
    assert torch.equal(features.test.labels, pixels.test.labels)
    with pytest.raises(InvalidDataset, match="beside an encoder"):
        load_dataset(str(folder), image_size=SIZE, featuriser=featuriser)


def test_a_large_folder_keeps_a_sample_of_features_and_processes_all_pictures(
    tmp_path: Path, featuriser: Featuriser
) -> None:
    folder = picture_folder(tmp_path / "data", "a", "b", each=30)
    seen: list[int] = []
    dataset = load_dataset(
        str(folder),
        featuriser=featuriser,
        most_bytes=30 * 2 * WIDTH,
        observe=lambda split: seen.append(len(split)),
    )
    kept = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    whole = load_dataset(str(folder), featuriser=featuriser)
    assert kept <= 34
    assert dataset.pictures == len(whole.train) + len(whole.validation) and sum(seen) == len(whole.train)


def test_progress_says_how_long_it_takes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    progress = EncodingProgress()
    progress(1024, 2048, 87.4)
    assert capsys.readouterr() == ("", ""), "only a line in ten seconds"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress(1024, 2048, 0.0)
    assert capsys.readouterr() == ("", ""), "what the cache has takes no time"
    progress(1024, 2048, 87.4)
    written = capsys.readouterr()
    assert written.err.startswith("\r") and "1,024 pictures, 87 a second, about 12 s left" in written.err
    assert not written.out
