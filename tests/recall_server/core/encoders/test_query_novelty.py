"""Novelty scores: calibration on known pictures, answers of the server, and absence without calibration."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from recall_server.config.settings import Settings
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.encoders.query_novelty import NoveltyScorer, novelty_path
from recall_server.errors import InvalidBundle
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library.library import Library
from recall_server.recall.uploads import Picture
from recall_server.service.service import RecallService
from tests.recall_server.serving_examples import COLUMNS, ManualBackend, column_encoder, picture, png, write_artifacts

SHA256 = hashlib.sha256(column_encoder()).hexdigest()
Damage = Callable[[Path], object]


def known() -> NoveltyScorer:
    generator = torch.Generator().manual_seed(1)
    return NoveltyScorer.of(torch.zeros(1, 3), torch.randn(1000, 3, generator=generator))


def test_a_score_is_the_share_of_known_pictures_that_are_nearer() -> None:
    usual = torch.randn(2000, 3, generator=torch.Generator().manual_seed(2))
    scores = known().score(usual)
    shares = torch.tensor([0.25, 0.5, 0.9])
    deviation = (shares * (1 - shares) * (1 / 1000 + 1 / 2000)).sqrt()  # of quantiles of so many, known and usual
    assert bool(((torch.quantile(scores, shares) - shares).abs() < 3 * deviation).all())
    assert known().score(torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])).tolist() == [0.0, 1.0]
    two = NoveltyScorer.of(torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [8.0], [13.0], [6.0]]))
    assert two.score(torch.tensor([[11.5], [7.5]])).tolist() == [0.25, 0.5], "the nearest centre counts"


def test_a_scorer_is_equal_when_read_again(tmp_path: Path) -> None:
    path = known().save(tmp_path / "columns.onnx", SHA256)
    assert path == novelty_path(tmp_path / "columns.onnx") == tmp_path / "columns.known"
    again = NoveltyScorer.load(tmp_path / "columns.onnx", SHA256)
    assert again is not None
    assert torch.equal(again.centres, known().centres)
    assert torch.equal(again.distances, known().distances)
    assert NoveltyScorer.load(tmp_path / "other.onnx", SHA256) is None


@pytest.mark.parametrize(
    ("centres", "distances", "sentence"),
    [
        (torch.zeros(0, 3), torch.ones(2), "one or more of each"),
        (torch.zeros(2, 3), torch.ones(0), "one or more of each"),
        (torch.full((1, 3), torch.nan), torch.ones(2), "finite"),
        (torch.zeros(1, 3), torch.tensor([2.0, 1.0]), "ascending"),
    ],
)
def test_invalid_values_are_refused(centres: torch.Tensor, distances: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        NoveltyScorer(centres, distances)


def with_known_columns(folder: Path) -> Path:
    """Artifacts whose encoder has a file of known pictures beside it: noise with one bright column."""
    artifacts = write_artifacts(folder)
    encoder = QueryEncoder(artifacts / "encoders" / "columns.onnx", SHA256, device="cpu")

    def encoded(seed: int) -> torch.Tensor:
        shown = np.stack([picture(label, seed + number) for label in COLUMNS for number in range(30)])[:, None]
        return torch.from_numpy(encoder.encode(shown.astype(np.float32) / 255))

    centres = encoded(0).unflatten(0, (3, 30)).mean(dim=1)
    NoveltyScorer.of(centres, encoded(500)).save(artifacts / "encoders" / "columns.onnx", SHA256)
    return artifacts


def pictures(name: str, *shown: np.ndarray) -> list[Picture]:
    return [Picture(name, f"{name}{number}.png", png(each)) for number, each in enumerate(shown)]


def test_answers_to_pictures_include_novelty_scores(tmp_path: Path) -> None:
    jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), ManualBackend(), JobLimits())
    jobs.open()
    jobs.start()
    library = Library.load(with_known_columns(tmp_path / "artifacts"), device="cpu")
    service = RecallService(library, jobs, Settings(state=tmp_path))
    usual = pictures("usual", *(picture("left", seed) for seed in range(900, 905)))
    rows = pictures("rows", *(picture("left", seed).T.copy() for seed in range(900, 905)))
    record = service.train_pictures([*usual, *rows]).record
    assert record.out_of_set is not None
    assert record.out_of_set["usual"] < 0.9 < record.out_of_set["rows"]
    assert any("knows nothing like the pictures of rows" in note for note in record.notes)
    assert not any("pictures of usual" in note for note in record.notes)
    recalled = service.recall_pictures([*usual, *rows])
    assert [entry.query.out_of_set for entry in recalled.queries] == list(record.out_of_set.values())
    assert service.train_labels(["left", "right"]).record.out_of_set is None


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.write_bytes(b"?"), "cannot be used"),
        (lambda path: known().save(path.with_name("columns.onnx"), "0" * 64), "made for another encoder"),
        (
            lambda path: NoveltyScorer(torch.zeros(1, 7), torch.ones(1)).save(path.with_name("columns.onnx"), SHA256),
            "queries do not have 3 numbers",
        ),
    ],
)
def test_a_damaged_scorer_is_logged_and_the_memory_is_served_without_scores(
    tmp_path: Path, damage: Damage, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    artifacts = with_known_columns(tmp_path)
    damage(artifacts / "encoders" / "columns.known")
    with caplog.at_level(logging.ERROR):
        loaded = Library.load(artifacts, device="cpu").get("columns-images")
    assert loaded.novelty is None
    assert sentence in caplog.text
    if "another" in sentence:
        with pytest.raises(InvalidBundle, match=sentence):
            NoveltyScorer.load(artifacts / "encoders" / "columns.onnx", SHA256)


def test_a_scorer_that_is_added_later_is_loaded(tmp_path: Path) -> None:
    artifacts = write_artifacts(tmp_path)
    before = Library.load(artifacts, device="cpu")
    assert before.get("columns-images").novelty is None
    known().save(artifacts / "encoders" / "columns.onnx", SHA256)
    assert Library.load(artifacts, device="cpu", previous=before).get("columns-images").novelty is not None
