"""Classify-then-recall: the label of a memory that the pictures of a class are nearest to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import UnsupportedQuery
from recall_server.recall.nearest_label import embedding, nearest_labels
from tests.recall_server.serving_examples import COLUMNS, column_encoder, label_bundle, picture


def pixels(*labels: str, side: int = 8) -> Tensor:
    shown = np.stack([picture(label, 70 + number, side=side) for number, label in enumerate(labels)])[:, None]
    return torch.from_numpy(shown.astype(np.float32) / 255)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("side", [8, 16])
def test_a_class_gets_the_label_nearest_to_most_of_its_pictures(tmp_path: Path, encoded: bool, side: int) -> None:
    data = column_encoder()
    (tmp_path / "columns.onnx").write_bytes(data)
    encoder = QueryEncoder(tmp_path / "columns.onnx", hashlib.sha256(data).hexdigest(), device="cpu")
    bundle = label_bundle("columns", tuple(COLUMNS), side=side)
    embed = embedding(bundle, encoder if encoded else None)
    shown = {"mine": pixels("right", "left", "right", side=side), "yours": pixels("left", "left", side=side)}
    assert nearest_labels(shown, bundle, embed) == {"mine": "right", "yours": "left"}


def test_two_classes_with_the_same_nearest_label_are_refused() -> None:
    bundle = label_bundle("columns", tuple(COLUMNS))
    shown = {"mine": pixels("left"), "yours": pixels("left", "left")}
    with pytest.raises(UnsupportedQuery, match="'columns' classifies both 'mine' and 'yours' as 'left'"):
        nearest_labels(shown, bundle, embedding(bundle, None))
