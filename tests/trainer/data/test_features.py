"""Features are computed once: an interrupted run goes on where it stopped, and no broken file is believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recall_server.core.encoders.query_encoder import QueryEncoder
from tests.tolerances import assert_close
from tests.trainer.data.encoders.test_standard_form import SCALING, SIZE, WIDTH, description, tower
from trainer.data import features
from trainer.data.encoders.standard_form import standard_form
from trainer.data.features import Featuriser, prepared


@pytest.fixture
def encoder(tmp_path: Path) -> QueryEncoder:
    data = standard_form(tower(), SCALING, description())
    (tmp_path / "tower.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return QueryEncoder(tmp_path / "tower.onnx", digest, image_shape=(3, SIZE, SIZE), device="cpu")


def pictures(count: int, channels: int = 3, side: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, side, side + 2), dtype=torch.uint8, generator=generator)


def test_a_cache_computes_only_missing_features(
    encoder: QueryEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "CHUNK", 4)
    images = pictures(10)
    fresh = Featuriser(encoder)(images)
    assert fresh.shape == (10, WIDTH, 1, 1) and fresh.dtype == torch.float16
    first = Featuriser(encoder, cache=tmp_path / "cache")
    assert torch.equal(first(images[:4]), fresh[:4])
    encoded: list[int] = []
    monkeypatch.setattr(Featuriser, "_encode", _counting(Featuriser._encode, encoded))
    assert torch.equal(Featuriser(encoder, cache=tmp_path / "cache")(images), fresh)
    assert encoded == [4, 2], "the first four were there"


def _counting(encode: object, counts: list[int]) -> object:
    def counted(self: Featuriser, images: Tensor) -> Tensor:
        counts.append(len(images))
        return encode(self, images)  # type: ignore[operator]

    return counted


def test_a_truncated_cache_file_is_computed_again(encoder: QueryEncoder, tmp_path: Path) -> None:
    images = pictures(3)
    expected = Featuriser(encoder, cache=tmp_path / "cache")(images)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-5])
    assert torch.equal(Featuriser(encoder, cache=tmp_path / "cache")(images), expected)


def test_no_pictures_have_no_features(encoder: QueryEncoder) -> None:
    assert Featuriser(encoder)(pictures(0)).shape == (0, WIDTH, 1, 1)


def test_pictures_are_cut_square_around_their_centre_and_grey_ones_are_repeated() -> None:
    grey = pictures(2, channels=1, side=8)
    found = prepared(grey, (3, 8, 8))
    assert found.shape == (2, 3, 8, 8)
    assert_close(found[:, 0], (grey[:, 0, :, 1:9].float() / 255).numpy())
    assert (found[:, 0] == found[:, 2]).all()
