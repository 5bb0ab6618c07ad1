"""/classifier and everything below it, over HTTP."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient

from recall_server.api.schemas.classifier_schemas import ClassifierAnswer
from recall_server.api.state.context import SUBMISSIONS
from recall_server.errors import NotFound
from recall_server.jobs.rows.records import ClassifierRecord, Progress
from recall_server.service import RecallService
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.requests import WAIT, Part, parts, problem, trained
from tests.recall_server.serving_examples import ManualBackend, picture, png
from tests.suite.digests import repr_digest


def test_labels_become_a_classifier(client: TestClient) -> None:
    answer = client.post("/classifier?seed=7", json={"labels": ["left", "RIGHT"]}, headers=WAIT)
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/classifier/{body['id']}" == body["links"]["self"]
    assert answer.headers["preference-applied"] == "wait=30"
    assert (body["status"], body["is_terminal"], body["error"]) == ("succeeded", True, None)
    assert (body["labels"], body["queries"], body["pictures"], body["seed"]) == (["left", "right"], "labels", None, 7)
    assert body["bundle"]["name"] == "columns"
    assert body["image"] == {"channels": 1, "height": 8, "width": 8}
    assert body["network"] == "convnet:filters=8,depth=2"
    assert body["progress"] == {"done": 30, "total": 30, "loss": 0.5}
    assert client.get(answer.headers["location"]).json() == body


def test_labels_of_several_bundles_become_one_classifier(client: TestClient) -> None:
    body = trained(client, json={"labels": ["left", "far"]})
    assert [each["name"] for each in body["bundles"]] == ["columns", "places"]
    assert (body["bundle"]["name"], body["quality"]) == ("places", None)
    assert body["image"] == {"channels": 1, "height": 16, "width": 16}
    assert "never measured" in body["notes"][0]
    alone = trained(client, json={"labels": ["left", "right"]})
    assert (alone["bundles"], alone["notes"]) == ([alone["bundle"]], [])


def test_pictures_become_a_classifier_whose_classes_are_the_field_names(client: TestClient) -> None:
    sent = parts("left", "right", count=3)
    sent = [({"left": "ours", "right": "größere"}[name], file) for name, file in sent]
    body = trained(client, files=sent)
    assert (body["labels"], body["queries"]) == (["ours", "größere"], "images")
    assert body["pictures"] == {"ours": 3, "größere": 3}
    shown = parts("right", "left", count=5, seed=900, name="images")
    predictions = client.post(body["links"]["predict"], files=shown).json()["predictions"]
    assert [each["label"] for each in predictions] == ["größere"] * 5 + ["ours"] * 5
    assert list(predictions[0]["probabilities"]) == ["ours", "größere"]


def test_prototypes_are_there_at_once(client: TestClient) -> None:
    answer = client.post("/classifier?addressing=prototypes", files=parts("left", "right", count=2))
    body = answer.json()
    assert (answer.status_code, body["status"], body["addressing"]) == (201, "succeeded", "prototypes")
    shown = parts("right", count=2, seed=900, name="images")
    predictions = client.post(body["links"]["predict"], files=shown).json()["predictions"]
    assert [(each["label"], each["by"]) for each in predictions] == [("right", "prototypes")] * 2
    assert client.get(body["links"]["download"], params={"format": "onnx"}).status_code == 200
    assert "nearest" in client.get(body["links"]["card"]).text


def test_the_answer_says_how_pictures_are_used_and_the_caller_can_choose(client: TestClient) -> None:
    sent = parts("left", "right", count=2)
    assert trained(client, files=sent)["addressing"] == "images"
    answer = client.post("/classifier?addressing=classify&bundle=columns", files=sent, headers=WAIT)
    assert (answer.status_code, answer.json()["addressing"]) == (201, "classify")
    assert "classified as labels" in answer.json()["notes"][0]
    refused = client.post("/classifier?addressing=guess", files=sent)
    assert problem(refused, 422, "invalid-request")["parameter"] == "addressing"
    by_name = client.post("/classifier?addressing=images", json={"labels": ["left", "right"]})
    assert "an option for pictures" in problem(by_name, 422, "invalid-request")["detail"]
    by_name = client.post("/classifier?own_pictures=false", json={"labels": ["left", "right"]})
    assert problem(by_name, 422, "invalid-request")["parameter"] == "own_pictures"
    recalled_alone = client.post("/classifier?own_pictures=false", files=sent, headers=WAIT).json()
    assert "themselves" not in recalled_alone["notes"][0]
    assert trained(client, json={"labels": ["left", "right"]})["addressing"] is None


def test_options_may_be_in_the_body_but_must_not_contradict_the_address(client: TestClient) -> None:
    body = trained(client, json={"labels": ["middle", "left"], "seed": 3, "bundle": "columns"})
    assert (body["seed"], body["bundle"]["name"]) == (3, "columns")
    agreeing = client.post("/classifier?seed=3", json={"labels": ["left", "right"], "seed": 3})
    assert agreeing.json()["seed"] == 3
    contradiction = client.post("/classifier?seed=4", json={"labels": ["left", "right"], "seed": 3})
    assert problem(contradiction, 422, "invalid-request")["parameter"] == "seed"


def test_without_prefer_wait_the_job_is_accepted_and_can_be_followed(
    client: TestClient, backend: ManualBackend
) -> None:
    backend.eager = False
    answer = client.post("/classifier", json={"labels": ["left", "right"]})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
    location = answer.headers["location"]
    body = answer.json()
    assert (body["status"], body["progress"], body["is_terminal"]) == ("queued", None, False)
    problem(client.get(f"{location}/download"), 409, "not-ready")
    document = problem(client.post(f"{location}/predict", files=parts("left", name="images")), 409, "not-ready")
    assert "it is queued" in document["detail"]
    assignment = backend.begin()
    backend.source.progressed(assignment, Progress(done=3, total=30, loss=1.5))
    body = client.get(location).json()
    assert (body["status"], body["progress"]) == ("running", {"done": 3, "total": 30, "loss": 1.5})
    assert body["started_at"]
    backend.perform(assignment)
    assert client.get(location).json()["status"] == "succeeded"


def test_a_wait_that_is_too_short_is_202_and_a_later_wait_gets_the_result(
    client: TestClient, backend: ManualBackend
) -> None:
    backend.eager = False
    answer = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Prefer": "wait=0.05"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=0.05")
    timer = threading.Timer(0.2, backend.perform)
    timer.start()
    followed = client.get(answer.headers["location"], headers=WAIT)
    timer.join()
    assert (followed.status_code, followed.json()["status"]) == (200, "succeeded")


def test_a_wait_does_not_block_other_requests(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    location = client.post("/classifier", json={"labels": ["left", "right"]}).headers["location"]
    waiting = [threading.Thread(target=client.get, args=(location,), kwargs={"headers": WAIT}) for _ in range(60)]
    for thread in waiting:
        thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert client.get("/recall?labels=left").status_code == 200
    assert time.monotonic() - began < 5
    backend.perform()
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("prefer", ["wait", "wait=soon", "respond-async", "wait=-1", ""])
def test_a_preference_that_cannot_be_read_is_ignored(client: TestClient, prefer: str) -> None:
    answer = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_waits_are_limited_by_the_server(open_app: Open) -> None:
    client = open_app(max_wait_seconds=0.5)
    answer = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Prefer": "x, wait=1000; y=z"})
    assert answer.headers["preference-applied"] == "wait=0.5"


def test_a_training_that_fails_says_why(client: TestClient, backend: ManualBackend, tmp_path: Path) -> None:
    backend.eager = False
    body = client.post("/classifier", json={"labels": ["left", "right"]}).json()
    folder = tmp_path / "classifiers"
    folder.rmdir()
    folder.touch()  # where the classifier would be saved there is no folder any more
    backend.perform()
    answer = client.get(body["links"]["self"], headers=WAIT)
    failed = answer.json()
    assert (answer.status_code, failed["status"], failed["is_terminal"], failed["file"]) == (200, "failed", True, None)
    assert failed["error"]["type"] == "/problems/storage-failed"
    assert failed["error"]["title"] == "Storage failed"
    assert "could not be written" in failed["error"]["detail"]
    assert str(tmp_path) not in failed["error"]["detail"]


def test_classifiers_are_listed_newest_first(client: TestClient) -> None:
    made = [trained(client, json={"labels": ["left", "right"], "seed": seed}) for seed in range(3)]
    assert client.get("/classifier").json() == {"classifiers": made[::-1], "next": None}
    problem(client.get("/classifier?limit=0"), 422, "invalid-request")


def test_a_list_is_read_page_by_page_whatever_is_added_meanwhile(client: TestClient) -> None:
    made = [trained(client, json={"labels": ["left", "right"], "seed": seed}) for seed in range(5)]
    first = client.get("/classifier?limit=2").json()
    trained(client, json={"labels": ["left", "right"], "seed": 5})
    second = client.get("/classifier", params={"limit": 2, "cursor": first["next"]}).json()
    last = client.get("/classifier", params={"limit": 2, "cursor": second["next"]}).json()
    assert first["classifiers"] + second["classifiers"] + last["classifiers"] == made[::-1]
    assert last["next"] is None
    problem(client.get("/classifier?cursor=no-such-page"), 422, "invalid-request")


def test_a_list_shows_each_classifier_as_it_is_now(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    made = client.post("/classifier", json={"labels": ["left", "right"]}).json()
    statuses = []
    for change in (None, backend.begin, lambda: client.post(made["links"]["cancel"])):
        if change is not None:
            change()
        (listed,) = client.get("/classifier").json()["classifiers"]
        assert listed == client.get(made["links"]["self"]).json()
        statuses.append(listed["status"])
    assert statuses == ["queued", "running", "cancelled"]
    client.delete(made["links"]["self"])
    assert client.get("/classifier").json()["classifiers"] == []


def test_a_cancelled_job_is_cancelled_and_a_finished_one_is_not(client: TestClient, backend: ManualBackend) -> None:
    done = trained(client, json={"labels": ["left", "right"]})
    assert client.post(done["links"]["cancel"]).json() == done
    backend.eager = False
    body = client.post("/classifier", json={"labels": ["left", "right"], "seed": 1}).json()
    cancelled = client.post(body["links"]["cancel"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert backend.cancelled == [body["id"]]
    assert client.get(body["links"]["self"], headers=WAIT).json()["status"] == "cancelled"


def test_a_deleted_classifier_is_gone(client: TestClient) -> None:
    links = trained(client, json={"labels": ["left", "right"]})["links"]
    answer = client.delete(links["self"])
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in (
        client.get(links["self"]),
        client.delete(links["self"]),
        client.post(links["cancel"]),
        client.get(links["download"]),
        client.post(links["predict"], files=parts("left", name="images")),
    ):
        problem(gone, 404, "not-found")


def test_the_same_request_and_seed_is_the_same_file(client: TestClient) -> None:
    def file(seed: int, **request: Any) -> bytes:
        body = trained(client, params={"seed": seed}, **request)
        content = client.get(body["links"]["download"]).content
        assert body["file"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return content

    labels = {"json": {"labels": ["left", "right"]}}
    assert file(1, **labels) == file(1, **labels)
    assert file(1, **labels) != file(2, **labels)
    assert file(1, files=parts("left", "right")) == file(1, files=parts("left", "right"))


def test_identical_requests_share_one_training(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    first = client.post("/classifier", json={"labels": ["left", "right"]})
    second = client.post("/classifier", json={"labels": ["LEFT", "right"], "seed": 0})
    other = client.post("/classifier", json={"labels": ["left", "right"], "seed": 1})
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"] != other.json()["id"]
    backend.perform()
    third = client.post("/classifier", json={"labels": ["left", "right"]})
    assert (third.status_code, third.json()["id"]) == (201, first.json()["id"])


def test_a_request_with_a_key_may_be_repeated_but_not_changed(client: TestClient, backend: ManualBackend) -> None:
    backend.eager = False
    key = {"Idempotency-Key": "order 77"}
    first = client.post("/classifier", files=parts("left", "right"), headers=key)
    again = client.post("/classifier", files=parts("left", "right"), headers=key)
    assert again.status_code == 202
    assert again.json() == first.json()
    changed = client.post("/classifier", files=parts("left", "middle"), headers=key)
    problem(changed, 409, "conflict")
    client.post(first.json()["links"]["cancel"])
    cancelled = client.post("/classifier", files=parts("left", "right"), headers=key)
    assert (cancelled.json()["id"], cancelled.json()["status"]) == (first.json()["id"], "cancelled")
    for bad in ("", "x" * 256, "\t"):
        answer = client.post("/classifier", json={"labels": ["left", "right"]}, headers={"Idempotency-Key": bad})
        assert problem(answer, 422, "invalid-request")["parameter"] == "Idempotency-Key"


@pytest.mark.parametrize("file_format", ["safetensors", "onnx"])
def test_a_download_has_its_digest_in_a_header_of_its_own(client: TestClient, file_format: str) -> None:
    links = trained(client, json={"labels": ["left", "right"]})["links"]
    answer = client.get(links["download"], params={"format": file_format})
    assert answer.headers["repr-digest"] == repr_digest(answer.content)["Repr-Digest"]


def test_an_unchanged_download_is_304(client: TestClient) -> None:
    body = trained(client, json={"labels": ["left", "right"]})
    etag = client.get(body["links"]["download"]).headers["etag"]
    again = client.get(body["links"]["download"], headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_a_classifier_can_be_downloaded_in_both_formats(client: TestClient) -> None:
    body = trained(client, json={"labels": ["left", "right"]})
    stored = client.get(body["links"]["download"])
    assert stored.headers["content-type"] == "application/vnd.safetensors"
    assert stored.headers["etag"] == f'"{body["file"]["sha256"]}"'
    assert stored.headers["content-disposition"] == f'attachment; filename="classifier-{body["id"][:8]}.safetensors"'
    exported = client.get(body["links"]["download"], params={"format": "onnx"})
    assert exported.headers["content-type"] == "application/vnd.onnx"
    session = onnxruntime.InferenceSession(exported.content)
    (probabilities,) = session.run(None, {"images": picture("right", 8)[None, None].astype(np.float32) / 255})
    assert probabilities[0, 1] > 0.5
    problem(client.get(body["links"]["download"], params={"format": "pickle"}), 422, "invalid-request")


def file_part(name: str, data: bytes) -> Part:
    return (name, (f"{name}.png", data, "image/png"))


def test_a_prediction_takes_parts_named_images(client: TestClient) -> None:
    links = trained(client, json={"labels": ["left", "right"]})["links"]
    document = problem(client.post(links["predict"], files=parts("left")), 422, "invalid-request")
    assert document["detail"] == "parts must be named 'images', not 'left'"
    problem(client.post(links["predict"], json={"images": []}), 415, "unsupported-media-type")
    bad = client.post(links["predict"], files=[*parts("left", name="images"), file_part("images", b"x")])
    assert "'images.png' of the part 'images'" in problem(bad, 422, "unreadable-picture")["detail"]


def test_pictures_of_any_size_and_mode_can_be_predicted(client: TestClient) -> None:
    links = trained(client, json={"labels": ["left", "right"]})["links"]
    large = np.kron(picture("right", 3), np.ones((20, 20), dtype=np.uint8))
    sent = [file_part("images", png(large)), file_part("images", png(np.stack([large] * 3, axis=-1)))]
    answer = client.post(links["predict"], files=sent)
    assert [each["label"] for each in answer.json()["predictions"]] == ["right", "right"]


def test_a_locked_table_holds_no_computing_thread(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen trainings and predictions wait for the table; a recall that is in no cache is answered meanwhile."""
    service: RecallService = client.app.state.context.service  # type: ignore[attr-defined]
    locked, waiting = threading.Event(), threading.Semaphore(0)

    def wait(*_: object, **__: object) -> None:
        waiting.release()
        locked.wait(60)
        raise NotFound("nothing")

    for name in ("submit", "get", "keep"):
        monkeypatch.setattr(service.jobs, name, wait)
    monkeypatch.setattr("recall_server.api.routes.classifiers.check_predictor", lambda *_: None)
    requests = [lambda: client.post("/classifier", json={"labels": ["left", "right"]})] * 8
    requests += [lambda: client.post("/classifier/x/predict", files=parts("left", count=1, name="images"))] * 8
    with ThreadPoolExecutor(len(requests)) as callers:
        answers = [callers.submit(request) for request in requests]
        try:
            for _ in range(SUBMISSIONS + 1):  # all threads for trainings, and one batch of predictions
                assert waiting.acquire(timeout=60)
            recall = ThreadPoolExecutor(1).submit(client.get, "/recall?labels=left&seed=77")
            assert recall.result(60).status_code == 200
        finally:
            locked.set()
        assert {answer.result(60).status_code for answer in answers} == {404}


def test_a_page_of_long_records_is_serialised_in_a_thread(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, a page may take as long as a computation, and the event loop serves everybody else."""
    client.post("/classifier", json={"labels": ["left", "right"]})
    threads: list[str] = []
    made = ClassifierAnswer.of

    def noted(record: ClassifierRecord, root: str) -> ClassifierAnswer:
        threads.append(threading.current_thread().name)
        return made(record, root)

    monkeypatch.setattr(ClassifierAnswer, "of", noted)
    assert len(client.get("/classifier").json()["classifiers"]) == 1
    assert threads == ["AnyIO worker thread"]
