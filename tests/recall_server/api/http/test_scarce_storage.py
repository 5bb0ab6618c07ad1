"""An OSError while a request is read, computed or stored is a 507 or a 503 with a sentence, never a 500."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.recall_server.api.requests import Part, parts, problem
from tests.recall_server.serving_examples import ManualBackend

LABELS = {"labels": ["left", "right"]}
ANSWERS = {errno.ENOSPC: (507, "storage-failed"), errno.EROFS: (507, "storage-failed")} | {
    errno.EMFILE: (503, "unavailable"),
    errno.ENOMEM: (503, "unavailable"),
}
PLACES = {
    "a form is read": ("recall_server.api.http.forms.PushMultipartParser.parse", "pictures"),
    "a task is written": ("recall_server.core.io.atomic._write_durably", "labels"),
    "a classifier is written": ("recall_server.core.io.atomic._write_durably", "pictures"),
    "the queue is read": ("recall_server.jobs.queue_ages.QueueAges.update", "labels"),
}


@pytest.mark.parametrize("number", ANSWERS)
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_the_system_is_explained(
    client: TestClient, backend: ManualBackend, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    backend.eager = False

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/secret/place")

    what, sent = PLACES[place]
    monkeypatch.setattr(what, fail)
    if sent == "labels":
        answer = client.post("/classifier", json=LABELS)
    else:
        answer = client.post("/classifier?addressing=prototypes", files=parts("left", "right"))
    status, slug = ANSWERS[number]
    document = problem(answer, status, slug)
    assert os.strerror(number) in document["detail"]
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    monkeypatch.undo()
    assert client.post("/classifier", json=LABELS).is_success


@pytest.mark.parametrize("kind", [ConnectionResetError, TimeoutError, OSError])
def test_other_errors_are_unforeseen(client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: type[OSError]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise kind("unforeseen")

    monkeypatch.setattr("recall_server.library.library.Library.get", fail)
    problem(client.get("/bundles/columns"), 500, "internal-error")


def large(label: str, number: int) -> Part:
    file = io.BytesIO()
    Image.effect_noise((1400, 1400), 60 + number).save(file, "PNG")
    assert len(file.getvalue()) > 2**20  # more than starlette keeps in memory
    return label, (f"{number}.png", file.getvalue(), "image/png")


@pytest.mark.process
@pytest.mark.parametrize("folder", ["missing", "a file", "too small"])
def test_no_upload_needs_a_temporary_folder(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / folder))
    if folder == "too small":
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    sent = [large("left", 1), large("right", 2)]
    assert client.post("/classifier?addressing=prototypes", files=sent).is_success


@pytest.mark.parametrize("gone", ["classifiers", "tasks"])
def test_a_server_whose_state_folder_is_gone_is_not_ready(client: TestClient, tmp_path: Path, gone: str) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]
    assert client.get("/health/ready").status_code == 200
    (tmp_path / gone).rename(tmp_path / "elsewhere")
    context.service.jobs._maintenance.heartbeat()
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the job table or the state folder cannot be used"]
    (tmp_path / "elsewhere").rename(tmp_path / gone)
    context.service.jobs._maintenance.heartbeat()
    assert client.get("/health/ready").status_code == 200
