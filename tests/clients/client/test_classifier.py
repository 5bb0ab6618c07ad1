"""The life of a classifier as its handle sees it: trained, waited for, used, taken away, cancelled, deleted."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2
import pytest

import recall_client
from recall_client import Classifier, ClassifierState, RecallClient
from recall_client.client.progress import ProgressLine
from tests.suite.digests import repr_digest

Describe = Callable[..., httpx2.Response]


@pytest.fixture
def queued(server: Any, client: RecallClient, describe: Describe) -> Classifier:
    server.on("POST", "/classifier", describe("queued"))
    return client.train(["Sneaker", "Bag"])


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake server never holds an answer back, so that every pause would be slept in full."""
    monkeypatch.setattr("recall_client.client.waiting._PAUSE", 0.0)


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


def test_one_name_instead_of_a_list_is_refused(server: Any, client: RecallClient) -> None:
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
def test_wait_never_asks_for_more_than_the_remaining_time(server: Any, queued: Classifier, describe: Describe) -> None:
    server.on("GET", "/classifier/c1", describe("succeeded"))
    queued.wait(timeout=5)
    assert 4.5 < float(server.asked[-1].headers["prefer"].removeprefix("wait=")) <= 5
    assert server.asked[-1].extensions["timeout"]["read"] > 30


def test_wait_times_out_and_can_be_called_again(server: Any, queued: Classifier, describe: Describe) -> None:
    server.on("GET", "/classifier/c1", describe("running"))
    with pytest.raises(TimeoutError, match="still running after 0.1 s") as caught:
        queued.wait(timeout=0.1)
    assert isinstance(caught.value, recall_client.StillTraining)
    assert len(server.asked) < 5  # a server that holds nothing back is not asked in a tight loop
    server.on("GET", "/classifier/c1", describe("succeeded"))
    assert queued.wait(timeout=0).status == "succeeded"


def test_waiting_for_a_finished_classifier_sends_nothing(server: Any, client: RecallClient, describe: Describe) -> None:
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


def test_predictions_are_in_the_order_of_the_pictures(server: Any, queued: Classifier) -> None:
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


def test_an_explanation_has_both_sides(server: Any, queued: Classifier) -> None:
    item = {"label": "Bag", "bundle": "shoes", "row": 1, "influence": 2.5, "probability_without": 0.25}
    answer = {"label": "Bag", "predicted": "Bag", "probability": 0.75, "log_odds": 1.1, "items": 2}
    sides = {"supporting": [item], "opposing": [item | {"label": "Sneaker", "influence": -0.5}]}
    server.on("POST", "/classifier/c1/explain", httpx2.Response(200, json=answer | sides))
    said = queued.explain(b"picture", label="Bag", top=1)
    assert dict(server.asked[-1].url.params) == {"label": "Bag", "top": "1"}
    assert server.asked[-1].content.count(b'name="images"') == 1
    assert (said.label, said.items, said.supporting[0].row, said.opposing[0].influence) == ("Bag", 2, 1, -0.5)
    with pytest.raises(TypeError, match="a path, bytes, a Pillow image or a NumPy array is needed"):
        queued.explain([b"picture"])


def test_predicting_too_early_or_without_pictures_is_refused(server: Any, queued: Classifier) -> None:
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
    headers = repr_digest(content)
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=headers, content=content))
    (tmp_path / name).write_bytes(b"what stood here before")
    path = queued.download(tmp_path / name, file_format=file_format)
    assert path.read_bytes() == content
    assert server.asked[-1].url.params["format"] == (file_format or path.suffix[1:])
    assert list(tmp_path.iterdir()) == [path]


CONTENT = b"a classifier of floats"
OTHER = sha256(b"another file").hexdigest()


@pytest.mark.parametrize(
    "etag",
    [
        None,
        f'"{OTHER}"',
        f'W/"{OTHER}"',
        f'"{OTHER}-gzip"',
        f'W/"{OTHER};br"',
        '"33a64df551425fcc55e4d42a148795d9f25f89d4"',
        "unquoted",
    ],
)
@pytest.mark.parametrize(
    "digest", [{}, repr_digest(CONTENT), {"Repr-Digest": f"sha-512=:AAAA:, {repr_digest(CONTENT)['Repr-Digest']}"}]
)
def test_an_etag_is_no_checksum(
    server: Any, queued: Classifier, tmp_path: Path, etag: str | None, digest: dict[str, str]
) -> None:
    headers = digest | ({} if etag is None else {"ETag": etag})
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=headers, content=CONTENT))
    assert queued.download(tmp_path / "bag.onnx").read_bytes() == CONTENT
    assert server.asked[-1].headers["accept-encoding"] == "identity"
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=headers, content=b"damaged"))
    if digest:
        with pytest.raises(recall_client.UnexpectedAnswer, match="arrived damaged: its sha256 is not"):
            queued.download(tmp_path / "damaged.onnx")
        assert not (tmp_path / "damaged.onnx").exists()


@pytest.mark.parametrize("digest", [repr_digest(CONTENT), repr_digest(gzip.compress(CONTENT, mtime=0)), {}])
def test_a_proxy_may_compress_a_download_with_any_digest(
    server: Any, queued: Classifier, tmp_path: Path, digest: dict[str, str]
) -> None:
    headers = digest | {"Content-Encoding": "gzip", "ETag": f'W/"{OTHER}"'}
    body = gzip.compress(CONTENT, mtime=0)
    server.on("GET", "/classifier/c1/download", lambda request: httpx2.Response(200, headers=headers, content=body))
    assert queued.download(tmp_path / "bag.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("digest", ["sha-256=:broken:", "md5=:AAAA:", "xsha-256=:" + "A" * 43 + "=:", "sha-256", ""])
def test_a_digest_that_cannot_be_read_is_ignored(server: Any, queued: Classifier, tmp_path: Path, digest: str) -> None:
    headers = {"Repr-Digest": digest}
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, headers=headers, content=CONTENT))
    assert queued.download(tmp_path / "bag.onnx").read_bytes() == CONTENT


def test_a_download_through_a_symbolic_link_replaces_the_file_behind_it(
    server: Any, queued: Classifier, tmp_path: Path
) -> None:
    server.on("GET", "/classifier/c1/download", httpx2.Response(200, content=CONTENT))
    (tmp_path / "models").mkdir()
    for name in ("there.onnx", "new.onnx"):
        link = tmp_path / f"link-{name}"
        link.symlink_to(Path("models", name))
        (tmp_path / "models/there.onnx").write_bytes(b"before")
        assert queued.download(link) == link
        assert link.is_symlink() and (tmp_path / "models" / name).read_bytes() == CONTENT
    long = tmp_path / ("a" * 250 + ".onnx")  # as long as a name may be
    assert queued.download(long).read_bytes() == CONTENT


WHOLE = repr_digest(b"whole")


def _breaks_off(request: httpx2.Request) -> httpx2.Response:
    def half() -> Any:
        yield b"half of it"
        raise httpx2.ReadError("the connection broke")

    return httpx2.Response(200, content=half())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_breaks_off, recall_client.NoAnswer),
        (httpx2.Response(200, headers=WHOLE, content=b"damaged"), recall_client.UnexpectedAnswer),
        (httpx2.Response(409, content=b""), recall_client.Problem),
    ],
)
def test_a_failed_download_changes_nothing(
    server: Any, queued: Classifier, tmp_path: Path, answer: Any, error: type[Exception]
) -> None:
    (tmp_path / "bag.onnx").write_bytes(b"what stood here before")
    server.on("GET", "/classifier/c1/download", answer)
    with pytest.raises(error):
        queued.download(tmp_path / "bag.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["bag.onnx"]
    assert (tmp_path / "bag.onnx").read_bytes() == b"what stood here before"


def test_a_download_with_a_bad_suffix_or_folder_is_refused_unsent(
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


def test_classifiers_are_listed_in_the_servers_order(server: Any, client: RecallClient, describe: Describe) -> None:
    listed = [describe("running", id="newer").json(), describe("failed", id="older").json()]
    server.on("GET", "/classifier", httpx2.Response(200, json={"classifiers": listed, "next": None}))
    assert [(each.id, each.status) for each in client.classifiers(limit=2)] == [
        ("newer", "running"),
        ("older", "failed"),
    ]
    assert dict(server.asked[0].url.params) == {"limit": "2"}


def test_a_list_reads_pages_until_it_is_long_enough(server: Any, client: RecallClient, describe: Describe) -> None:
    def page(request: httpx2.Request) -> httpx2.Response:
        first, limit = int(request.url.params.get("cursor", "0")), int(request.url.params["limit"])
        listed = [
            describe("succeeded", id=f"c{number}").json() for number in range(first, min(7, first + min(3, limit)))
        ]
        behind = str(first + len(listed)) if first + len(listed) < 7 else None
        return httpx2.Response(200, json={"classifiers": listed, "next": behind})

    server.on("GET", "/classifier", page)
    assert [each.id for each in client.classifiers(limit=None)] == [f"c{number}" for number in range(7)]
    assert [each.id for each in client.classifiers(limit=4)] == ["c0", "c1", "c2", "c3"]
    assert client.classifiers(limit=0) == []
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        client.classifiers(limit=-1)


def test_each_training_has_a_new_idempotency_key_or_the_callers(
    server: Any, client: RecallClient, describe: Describe
) -> None:
    server.on("POST", "/classifier", describe("queued"))
    client.train(["Sneaker", "Bag"])
    client.train(["Sneaker", "Bag"])
    client.train({"a": [b"1"], "b": [b"2"]}, idempotency_key="tuesday's")
    first, second, own = (request.headers["idempotency-key"] for request in server.asked)
    assert len(first) > 20 and first != second and own == "tuesday's"
    for key in ("", "clé", "two\nlines"):
        with pytest.raises(ValueError, match="idempotency key .* must consist of"):
            client.train(["Sneaker", "Bag"], idempotency_key=key)


def test_a_classifier_has_its_quality_and_stages(server: Any, client: RecallClient, describe: Describe) -> None:
    quality = {"accuracy": 0.97, "source": "evaluation", "per_label": {"Bag": 0.99}, "counts": {"Bag": 1000},
               "explanation": "measured on test pictures"}  # fmt: skip
    server.on("GET", "/classifier/c1", describe("succeeded", quality=quality, stages={"queued": 0.1, "training": 2.5}))
    classifier = client.classifier("c1")
    assert classifier.quality is not None and classifier.quality.per_label == {"Bag": 0.99}
    assert classifier.stages == {"queued": 0.1, "training": 2.5}
    server.on("GET", "/classifier/c1", describe("succeeded"))
    assert client.classifier("c1").quality is None


def test_a_thousand_pictures_are_sent_in_batches_and_keep_their_order(server: Any, queued: Classifier) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        said = [int(found) for found in re.findall(rb"picture number (\d+)", request.content)]
        predictions = [{"label": "Bag", "probabilities": {"Bag": number / 1000}} for number in said]
        return httpx2.Response(200, json={"predictions": predictions})

    server.on("POST", "/classifier/c1/predict", answer)
    predictions = queued.predict(b"picture number %d" % number for number in range(1000))
    assert [round(each.probabilities["Bag"] * 1000) for each in predictions] == list(range(1000))
    assert len(server.asked) == 1 + 4
    large = [b"picture number %d" % number + bytes(9 * 2**20) for number in range(3)]
    assert len(queued.predict(large)) == 3
    assert len(server.asked) == 1 + 4 + 3


def test_fewer_predictions_than_pictures_are_noticed(server: Any, queued: Classifier) -> None:
    server.on("POST", "/classifier/c1/predict", httpx2.Response(200, json={"predictions": []}))
    with pytest.raises(recall_client.UnexpectedAnswer, match="1 pictures were answered by 0 predictions"):
        queued.predict([b"picture"])


@pytest.mark.parametrize(
    ("kind", "error"),
    [("worker-lost", "WorkerLost"), ("queue-expired", "QueueExpired"), ("of-a-later-server", "TrainingFailed")],
)
def test_each_kind_of_failure_has_its_own_exception(
    server: Any, queued: Classifier, describe: Describe, kind: str, error: str
) -> None:
    reason = {"type": f"/problems/{kind}", "title": kind, "detail": "no luck"}
    server.on("GET", "/classifier/c1", describe("failed", error=reason))
    with pytest.raises(recall_client.TrainingFailed, match="no luck") as caught:
        queued.wait()
    assert type(caught.value).__name__ == error


@pytest.mark.usefixtures("no_pause")
def test_progress_is_shown_on_stderr(
    server: Any, queued: Classifier, describe: Describe, capsys: pytest.CaptureFixture[str]
) -> None:
    running = describe("running", progress={"done": 40, "total": 160, "loss": 0.3125})
    server.on("GET", "/classifier/c1", running, running, describe("succeeded"))
    queued.wait(progress=True)
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ["c1: training [######..................] 40/160, loss 0.312", "c1: succeeded"]
    assert shown.out == ""


def test_progress_on_a_terminal_uses_one_line(describe: Describe) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    line = ProgressLine(terminal)
    for body in (describe("queued"), describe("running"), describe("running", progress={"done": 9, "total": 9})):
        line(ClassifierState.model_validate(body.json()))
    line(ClassifierState.model_validate(describe("succeeded").json()))
    *_, last = terminal.getvalue().split("\r")
    assert last.rstrip(" \n") == "succeeded" and last.endswith("\n") and len(last) > len("succeeded\n")
    assert terminal.getvalue().count("\n") == 1


def test_a_deleted_classifier_is_gone(server: Any, queued: Classifier) -> None:
    server.on("DELETE", "/classifier/c1", httpx2.Response(204))
    queued.delete()
    server.refuse("DELETE", "/classifier/c1", 404, "not-found")
    with pytest.raises(recall_client.NotFound):
        queued.delete()
