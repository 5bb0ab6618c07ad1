"""The novelty scorer is fitted on training pictures and calibrated on validation pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recall_server.errors import UnsupportedQuery
from recall_server.library.library import Library
from tests.recall_server.serving_examples import write_artifacts
from trainer.data.datasets import ImageDataset
from trainer.evaluation.query_novelty import fit_novelty_scorer


def test_novelty_scores_separate_known_pictures_from_noise(tmp_path: Path, bars_dataset: ImageDataset) -> None:
    artifacts = write_artifacts(tmp_path)
    before = Library.load(artifacts, device="cpu")
    path = fit_novelty_scorer(artifacts / "bundles" / "columns-images.safetensors", bars_dataset, centres=3)
    assert path == artifacts / "encoders" / "columns.known"
    loaded = Library.load(artifacts, device="cpu", previous=before).get("columns-images")
    assert loaded.novelty is not None and loaded.encoder is not None
    assert len(loaded.novelty.distances) == len(bars_dataset.validation)
    strange = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(5).clamp(max=1)
    usual, unusual = (
        loaded.novelty.score(torch.from_numpy(loaded.encoder.encode(pixels.numpy()))).mean()
        for pixels in (bars_dataset.test.pixels(), strange)
    )
    assert usual < 0.8 < unusual


def test_a_memory_of_labels_and_too_few_pictures_are_refused(tmp_path: Path, bars_dataset: ImageDataset) -> None:
    artifacts = write_artifacts(tmp_path)
    with pytest.raises(UnsupportedQuery, match="'columns' is addressed by labels"):
        fit_novelty_scorer(artifacts / "bundles" / "columns.safetensors", bars_dataset)
    with pytest.raises(ValueError, match="1000000 centres need at least as many training pictures"):
        fit_novelty_scorer(artifacts / "bundles" / "columns-images.safetensors", bars_dataset, centres=1_000_000)
