"""A key stands for the request that it came with, not for what that request happens to mean later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recall_server.config import Settings
from recall_server.errors import Conflict
from recall_server.library import Library
from recall_server.recall import Picture
from recall_server.service import Caller, RecallService, TrainingReceipt
from tests.recall_server.job_examples import jobs_with
from tests.recall_server.serving_examples import COLUMNS, ManualBackend, label_bundle, picture, png, write_artifacts

CALLER = Caller(idempotency_key="k", caller="me")
Train = Callable[[RecallService], TrainingReceipt]


def pictures(*labels: str) -> list[Picture]:
    return [Picture(part=label, filename="", data=png(picture(label, 7))) for label in labels]


def from_labels(service: RecallService, labels: tuple[str, ...] = ("left", "right"), **changed: Any) -> TrainingReceipt:
    return service.train_labels(labels, asked=CALLER, **changed)


def from_pictures(service: RecallService, sent: list[Picture] | None = None, **changed: Any) -> TrainingReceipt:
    return service.train_pictures(sent or pictures("left", "right"), asked=CALLER, **changed)


def prototypes(service: RecallService) -> TrainingReceipt:
    return from_pictures(service, addressing="prototypes")


class Folder:
    """A service on a folder of bundles that a test may publish to."""

    def __init__(self, path: Path) -> None:
        self.artifacts = write_artifacts(path / "artifacts")
        self.service = RecallService(self.loaded(), jobs_with(ManualBackend(), path), Settings(state=path))

    def loaded(self) -> Library:
        return Library.load(self.artifacts, device="cpu")

    def republish(self) -> None:
        """Another bundle under the same name, which recalls other images for the same labels."""
        other = label_bundle("columns", tuple(reversed(COLUMNS)))
        other.save(self.artifacts / "bundles" / "columns.safetensors")
        self.service._library = self.loaded()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    yield Folder(tmp_path)


def test_a_retry_returns_its_job_after_its_bundle_was_republished(folder: Folder) -> None:
    first = from_labels(folder.service)
    folder.republish()
    again = from_labels(folder.service)
    assert (again.record.id, again.work) == (first.record.id, 0)
    assert folder.service.train_labels(["left", "right"]).record.id != first.record.id, "the bundle is another one"


def test_a_retry_returns_its_job_after_its_bundle_was_removed(folder: Folder) -> None:
    first = from_labels(folder.service)
    (folder.artifacts / "bundles" / "columns.safetensors").unlink()
    folder.service._library = folder.loaded()
    assert from_labels(folder.service).record.id == first.record.id


@pytest.mark.parametrize("train", [from_labels, from_pictures, prototypes])
def test_a_retry_is_answered_without_a_recall(folder: Folder, monkeypatch: pytest.MonkeyPatch, train: Train) -> None:
    first = train(folder.service)

    def recall(*_: object, **__: object) -> None:
        raise AssertionError("the key was not looked up first")

    for name in ("build_training_set", "label_queries", "resolve_pictures"):
        monkeypatch.setattr(f"recall_server.service.service.{name}", recall)
    assert train(folder.service).record.id == first.record.id


@pytest.mark.parametrize(
    "train",
    [
        lambda service: from_labels(service, ("right", "left")),
        lambda service: from_labels(service, bundle="columns"),
        lambda service: from_labels(service, seed=1),
        from_pictures,
    ],
)
def test_a_key_used_for_other_labels_is_refused(folder: Folder, train: Train) -> None:
    from_labels(folder.service)
    with pytest.raises(Conflict, match="came with another request"):
        train(folder.service)


@pytest.mark.parametrize(
    "train",
    [
        lambda service: from_pictures(service, pictures("right", "left")),
        lambda service: from_pictures(service, pictures("left", "right", "middle")),
        lambda service: from_pictures(service, own_pictures=False),
        lambda service: from_pictures(service, bundle="columns-images"),
        lambda service: from_pictures(service, seed=1),
        prototypes,
        from_labels,
    ],
)
def test_a_key_used_for_other_pictures_is_refused(folder: Folder, train: Train) -> None:
    from_pictures(folder.service)
    with pytest.raises(Conflict, match="came with another request"):
        train(folder.service)


def test_the_same_key_of_another_caller_is_another_key(folder: Folder) -> None:
    from_labels(folder.service)
    other = Caller(idempotency_key="k", caller="you")
    assert folder.service.train_labels(["left", "middle"], bundle="columns", asked=other).work > 0
