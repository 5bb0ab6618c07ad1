"""The life of a classifier as its handle sees it: trained, waited for, used, taken away, cancelled, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import Classifier, RecallClient

Describe = Callable[..., httpx2.Response]


@pytest.fixture
def queued(server: Any, client: RecallClient, describe: Describe) -> Classifier:
    server.on("POST", "/classifier", describe("queued"))
    return client.train(["Sneaker", "Bag"])


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake server never holds an answer back, so that every pause would be slept in full."""
    monkeypatch.setattr("recall_client.classifier._PAUSE", 0.0)


def test_training_by_labels_returns_at_once(server: Any, client: RecallClient, describe: Describe) -> None:
    server.on("POST", "/classifier", describe("queued"))
    classifier = client.train(["Sneaker", "Bag"], seed=3, bundle="fashion-mnist")
    assert json.loads(server.asked[0].content) == {"labels": ["Sneaker", "Bag"]}
    assert dict(server.asked[0].url.params) == {"seed": "3", "bundle": "fashion-mnist"}
    assert "prefer" not in server.asked[0].headers
    assert (classifier.id, classifier.status, classifier.labels) == ("c1", "queued", ("Sneaker", "Bag"))
    assert repr(classifier) == "Classifier(c1, queued, labels=['Sneaker', 'Bag'])"


def test_training_from_pictures_sends_them_under_their_class(
    server: Any, client: RecallClient, describe: Describe
) -> None:
    server.on("POST", "/classifier", describe("queued"))
    client.train({"bear": [b"first"], "deer": [b"second"]})
    assert server.asked[0].headers["content-type"].startswith("multipart/form-data")
    assert server.asked[0].content.index(b'name="bear"') < server.asked[0].content.index(b'name="deer"')


def test_one_name_in_place_of_a_list_is_refused(server: Any, client: RecallClient) -> None:
    with pytest.raises(TypeError, match="a list of names"):
        client.train("Sneaker,Bag")
    assert server.asked == []


@pytest.mark.usefixtures("no_pause")
def test_wait_returns_the_trained_classifier(server: Any, queued: Classifier, describe: Describe) -> None:
    running = describe("running", progress={"done": 40, "total": 150, "loss": None})
    server.on("GET", "/classifier/c1", running, describe("succeeded", file={"bytes": 9, "sha256": "ab"}))
    seen: list[tuple[str, int | None]] = []
    trained = queued.wait(on_progress=lambda now: seen.append((now.status, now.progress and now.progress.done)))
    assert trained is queued and trained.status == "succeeded"
    assert trained.state.file is not None and trained.state.file.bytes == 9
    assert seen == [("running", 40), ("succeeded", None)]
    assert server.asked[-1].headers["prefer"] == "wait=1.000"


@pytest.mark.usefixtures("no_pause")
def test_wait_asks_the_server_to_hold_its_answer_no_longer_than_there_is_time(
    server: Any, queued: Classifier, describe: Describe
) -> None:
    server.on("GET", "/classifier/c1", describe("succeeded"))
    queued.wait(timeout=5)
    assert 4.5 < float(server.asked[-1].headers["prefer"].removeprefix("wait=")) <= 5
    assert server.asked[-1].extensions["timeout"]["read"] > 30


def test_wait_gives_up_when_asked_to_and_can_be_called_again(
    server: Any, queued: Classifier, describe: Describe
) -> None:
    server.on("GET", "/classifier/c1", describe("running"))
    with pytest.raises(TimeoutError, match="still running after 0.1 s") as caught:
        queued.wait(timeout=0.1)
    assert isinstance(caught.value, recall_client.StillTraining)
    assert len(server.asked) < 5  # a server that holds nothing back is not asked in a tight loop
    server.on("GET", "/classifier/c1", describe("succeeded"))
    assert queued.wait(timeout=0).status == "succeeded"


def test_waiting_for_what_is_finished_asks_nothing(server: Any, client: RecallClient, describe: Describe) -> None:
    server.on("POST", "/classifier", describe("succeeded"))
    client.train(["Sneaker", "Bag"]).wait()
    assert len(server.asked) == 1


def test_a_failed_training_says_why(server: Any, queued: Classifier, describe: Describe) -> None:
    reason = {"type": "/problems/training-failed", "title": "Training failed", "detail": "the loss is no number"}
    server.on("GET", "/classifier/c1", describe("failed", error=reason))
    with pytest.raises(recall_client.TrainingFailed, match="c1 failed: the loss is no number"):
        queued.wait()


def test_a_cancelled_training_ends_the_wait(server: Any, queued: Classifier, describe: Describe) -> None:
    server.on("POST", "/classifier/c1/cancel", describe("cancelled"))
    assert queued.cancel().status == "cancelled"
    with pytest.raises(recall_client.TrainingCancelled):
        queued.wait()


def test_predictions_come_in_the_order_sent(server: Any, queued: Classifier) -> None:
    answer = {
        "predictions": [
            {"label": "Bag", "probabilities": {"Sneaker": 0.25, "Bag": 0.75}},
            {"label": "Sneaker", "probabilities": {"Sneaker": 1.0, "Bag": 0.0}},
        ]
    }
    server.on("POST", "/classifier/c1/predict", httpx2.Response(200, json=answer))
    predictions = queued.predict([b"first", b"second"])
    assert [(said.label, said.probabilities["Sneaker"]) for said in predictions] == [("Bag", 0.25), ("Sneaker", 1.0)]
    assert server.asked[-1].content.count(b'name="images"') == 2


def test_predicting_too_early_or_nothing_is_refused(server: Any, queued: Classifier) -> None:
    server.refuse("POST", "/classifier/c1/predict", 409, "not-ready")
    with pytest.raises(recall_client.NotReady):
        queued.predict([b"picture"])
    with pytest.raises(ValueError, match="there are no pictures"):
        queued.predict([])


@pytest.mark.parametrize(("name", "file_format"), [("bag.onnx", None), ("bag.safetensors", None), ("bag.bin", "onnx")])
def test_a_download_is_the_servers_file(
    server: Any, queued: Classifier, tmp_path: Path, name: str, file_format: Any
) -> None:
    content = bytes(range(256)) * 50
    headers = {"ETag": f'"{sha256(content).hexdigest()}"'}
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=headers, content=content))
    (tmp_path / name).write_bytes(b"what stood here before")
    path = queued.download(tmp_path / name, file_format=file_format)
    assert path.read_bytes() == content
    assert server.asked[-1].url.params["format"] == (file_format or path.suffix[1:])
    assert list(tmp_path.iterdir()) == [path]


def _breaks_off(request: httpx2.Request) -> httpx2.Response:
    def half() -> Any:
        yield b"half of it"
        raise httpx2.ReadError("the connection broke")

    return httpx2.Response(200, content=half())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_breaks_off, recall_client.NoAnswer),
        (httpx2.Response(200, headers={"ETag": '"0123"'}, content=b"damaged"), recall_client.UnexpectedAnswer),
        (httpx2.Response(409, content=b""), recall_client.Problem),
    ],
)
def test_a_download_that_fails_leaves_everything_as_it_was(
    server: Any, queued: Classifier, tmp_path: Path, answer: Any, error: type[Exception]
) -> None:
    (tmp_path / "bag.onnx").write_bytes(b"what stood here before")
    server.on("GET", "/classifier/c1/download", answer)
    with pytest.raises(error):
        queued.download(tmp_path / "bag.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["bag.onnx"]
    assert (tmp_path / "bag.onnx").read_bytes() == b"what stood here before"


def test_a_download_of_no_known_ending_or_into_no_folder_is_refused_unsent(
    server: Any, queued: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="neither .safetensors nor .onnx"):
        queued.download(tmp_path / "classifier.pt")
    with pytest.raises(FileNotFoundError):
        queued.download(tmp_path / "nowhere" / "bag.onnx")
    assert len(server.asked) == 1


def test_a_classifier_of_an_earlier_session_is_found_by_its_id(
    server: Any, client: RecallClient, describe: Describe
) -> None:
    server.on("GET", "/classifier/c1", describe("running"), describe("succeeded"))
    classifier = client.classifier("c1")
    assert classifier.status == "running"
    assert classifier.refresh().status == "succeeded"


def test_classifiers_are_listed_as_the_server_orders_them(
    server: Any, client: RecallClient, describe: Describe
) -> None:
    listed = [describe("running", id="newer").json(), describe("failed", id="older").json()]
    server.on("GET", "/classifier", httpx2.Response(200, json={"classifiers": listed}))
    assert [(each.id, each.status) for each in client.classifiers(limit=2)] == [
        ("newer", "running"),
        ("older", "failed"),
    ]
    assert server.asked[0].url.params["limit"] == "2"


def test_a_deleted_classifier_is_gone(server: Any, queued: Classifier) -> None:
    server.on("DELETE", "/classifier/c1", httpx2.Response(204))
    queued.delete()
    server.refuse("DELETE", "/classifier/c1", 404, "not-found")
    with pytest.raises(recall_client.NotFound):
        queued.delete()
