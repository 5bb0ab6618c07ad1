"""Both clients and the server as two processes that talk over a socket, every public call, and nothing asked twice.

The asynchronous client goes through the same tests, in an event loop of another thread.
"""

from __future__ import annotations

import ast
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import pytest
import torch
from anyio.from_thread import start_blocking_portal
from PIL import Image

import recall_client
import recall_server
from recall_client import AsyncClassifier, AsyncRecallClient, LocalClassifier, RecallClient
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from tests.clients.blocking import Blocking
from tests.clients.toy_server import LABELS, SIDE, toy_pictures
from tests.recall_server.bundle_examples import example_bundle
from tests.tolerances import assert_close

TERMS = 9 * SIDE * SIDE  # products that a convolution and a classifier sum up


@pytest.fixture(params=["RecallClient", "AsyncRecallClient"])
def client(address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "RecallClient":
        with RecallClient(address, retries=0) as client:
            yield client
        return
    with start_blocking_portal() as portal:
        blocking = Blocking(AsyncRecallClient(address, retries=0), portal)
        yield blocking
        blocking.aclose()


def test_every_public_call_is_tested_here() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    made = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for kind in (AsyncRecallClient, AsyncClassifier, LocalClassifier):
        for name in dir(kind):
            if not name.startswith("_"):
                assert name in (made if callable(getattr(kind, name)) else read), f"{kind.__name__}.{name}"


def test_loaded_bundles_are_listed(client: Any) -> None:
    assert [(bundle.name, bundle.queries) for bundle in client.bundles()] == [
        ("bases", "labels"),
        ("by-picture", "images"),
        ("columns", "labels"),
    ]
    assert client.labels() == ["one", "two", "three", *LABELS]
    assert client.groups() == {"edges": ("columns:left", "columns:right"), "links": ("left",)}
    columns = client.bundle("columns")
    assert columns.manifest["memory"]["kind"] == "stored_items" and columns.dataset_bytes == 64_000
    assert columns.links["bases"] is None
    assert client.info().version == recall_server.__version__
    assert client.info().limits["pictures"] == 1000
    with pytest.raises(recall_client.NotFound, match="rows"):
        client.bundle("rows")


def test_bases_and_similarities_of_a_memory_are_shown(client: Any) -> None:
    shown = client.bases("bases")
    assert (shown.bundle.name, len(shown.bases), shown.image.height) == ("bases", 4, SIDE // 2)
    assert shown.bases[0].to_pillow().size == (SIDE // 2, SIDE // 2)
    assert client.bases_sheet("bases").to_pillow().width > SIDE
    likeness = client.similarity("bases")
    assert likeness.labels == ("one", "two", "three")
    assert numpy.array_equal(numpy.diag(likeness.similarity), numpy.ones(3)) and len(likeness.similarity) == 3
    assert client.similarity("bases", ["three", "one"]).similarity[0][1] == likeness.similarity[2][0]
    assert client.bundle_card("bases").startswith("# ")
    for nothing_to_show in (lambda: client.bases("columns"), lambda: client.similarity("by-picture")):
        with pytest.raises(recall_client.NotFound):
            nothing_to_show()


def test_recalled_pictures_arrays_and_sheet_agree(client: Any) -> None:
    recalled = client.recall(["left", "right"], per_label=2)
    arrays = client.recall_arrays(["left", "right"], per_label=2)
    assert [query.name for query in recalled.recalled] == list(arrays.names) == ["left", "right"]
    assert arrays.images.shape == (4, 1, SIDE, SIDE)
    assert numpy.array_equal(arrays.targets, [[1, 0], [1, 0], [0, 1], [0, 1]])
    shown = numpy.stack([picture.to_numpy() for query in recalled.recalled for picture in query.images])
    assert numpy.array_equal(shown, numpy.rint(arrays.images.clip(0, 1) * 255).transpose(0, 2, 3, 1))
    assert shown[0, :, 1].min() > 250 > 120 > shown[0, :, -2].max()
    assert client.contact_sheet(["left", "right"]).to_pillow().width > SIDE


def test_labels_of_two_memories_train_one_classifier(client: Any) -> None:
    classifier = client.train(["one", "left"]).wait(timeout=60)
    assert [bundle.name for bundle in classifier.state.bundles] == ["bases", "columns"]
    assert classifier.quality is None
    assert "2 memories (bases, columns)" in classifier.notes[0]
    assert classifier.predict([toy_pictures("left", 1, seed=9)[0]])[0].label == "left"


def test_prototypes_are_usable_at_once_and_can_be_downloaded(client: Any) -> None:
    few = {"mine": list(toy_pictures("left", 3, seed=1)), "yours": list(toy_pictures("right", 3, seed=2))}
    classifier = client.train(few, addressing="prototypes")
    assert (classifier.status, classifier.state.addressing) == ("succeeded", "prototypes")
    asked = list(toy_pictures("left", 2, seed=7))
    there = classifier.predict(asked)
    assert {each.by for each in there} == {"prototypes"}
    here = classifier.local().predict(asked)
    for one, other in zip(here, there, strict=True):
        assert one.label == other.label
        assert_close(one.probabilities, other.probabilities, terms=TERMS, size=1, dtype=torch.float32)
    recalled = client.train(few, addressing="classify", bundle="columns").wait(timeout=60)
    assert "mine as left, yours as right" in recalled.notes[0]
    assert "pictures themselves" in recalled.notes[0]
    alone = client.train(few, addressing="classify", bundle="columns", own_pictures=False).wait(timeout=60)
    assert "pictures themselves" not in alone.notes[0]
    assert alone.id != recalled.id
    assert [each.label for each in recalled.predict(asked)] == ["mine", "mine"]


def test_mixtures_vectors_and_pictures_are_recalled(client: Any) -> None:
    (mixed,) = client.recall([{"left": 0.5, "right": 0.5}], seed=1).recalled
    assert mixed.target == {"left": 0.5, "right": 0.5}
    by_vector = client.recall_arrays([[0.5, 0.5, 0.0]], bundle="columns", seed=1)
    by_mixture = client.recall_arrays([{"left": 0.5, "right": 0.5}], seed=1)
    assert_close(by_vector.images, by_mixture.images, terms=4)
    by_picture = client.recall({"mine": toy_pictures("left", 2, seed=5), "yours": toy_pictures("right", 2, seed=5)})
    assert [query.name for query in by_picture.recalled] == ["mine", "yours"]
    assert by_picture.bundles[0].name == "by-picture"


def test_a_classifier_of_labels_recognises_new_pictures(client: Any, tmp_path: Path) -> None:
    progress: list[int] = []
    classifier = client.train(["right", "left"], seed=2)
    classifier.wait(60, on_progress=lambda state: progress.append(state.progress.done if state.progress else 0))
    assert classifier.labels == ("right", "left") and set(classifier.stages) >= {"queued", "training"}
    unseen = [*toy_pictures("left", 5, seed=9), *toy_pictures("right", 5, seed=9)]
    predictions = classifier.predict(unseen)
    assert [said.label for said in predictions] == ["left"] * 5 + ["right"] * 5
    assert all(sum(said.probabilities.values()) == pytest.approx(1) for said in predictions)
    assert "right, left" in classifier.card()

    path = classifier.download(tmp_path / "columns.onnx")
    pixels = (numpy.stack(unseen)[:, None] / 255).astype(numpy.float32)
    (probabilities,) = onnxruntime.InferenceSession(path).run(None, {"images": pixels})
    said = numpy.array([[each.probabilities["right"], each.probabilities["left"]] for each in predictions])
    assert_close(probabilities.astype(float), said, terms=TERMS, size=1, dtype=torch.float32)

    kept = FreshClassifier.load(classifier.download(tmp_path / "columns.safetensors"))
    assert kept.predict(torch.from_numpy(pixels)) == [each.label for each in predictions]


def test_a_downloaded_classifier_predicts_the_same(client: Any, tmp_path: Path) -> None:
    classifier = client.train(["right", "left"], seed=2).wait(60)
    unseen = [*toy_pictures("left", 3, seed=9), *toy_pictures("right", 3, seed=9)]
    remote = classifier.predict(unseen)
    for local in (classifier.local(), LocalClassifier.load(classifier.download(tmp_path / "columns.onnx"))):
        assert (local.labels, local.image.height) == (("right", "left"), SIDE)
        assert local.metadata["bundle"] == "columns"
        said = local.predict(unseen)
        assert [each.label for each in said] == [each.label for each in remote]
        ours, theirs = ([each.probabilities["left"] for each in answers] for answers in (said, remote))
        assert_close(ours, theirs, terms=TERMS, size=1, dtype=torch.float32)
        pixels = (numpy.stack(unseen)[:, None] / 255).astype(numpy.float32)
        mine = local.predict_arrays(pixels)[:, 1].tolist()
        assert_close(mine, theirs, terms=TERMS, size=1, dtype=torch.float32)


def test_a_bundle_is_handed_in_and_removed(client: Any, tmp_path: Path) -> None:
    made = example_bundle(name=f"handed-in-{type(client).__name__}", labels=("four", "five", "six"))
    path = tmp_path / f"{made.manifest.name}.safetensors"
    sha256 = made.save(path).sha256
    assert client.put_bundle(path).sha256 == client.put_bundle(path).sha256 == sha256, "the same bundle is no conflict"
    assert client.bundle(path.stem).labels == ("four", "five", "six")
    example_bundle(name=path.stem, labels=("one", "two", "six")).save(path)
    with pytest.raises(recall_client.Conflict, match="If-None-Match names what is there"):
        client.put_bundle(path)
    assert client.put_bundle(path, replace=True).labels == ("one", "two", "six")
    client.delete_bundle(path.stem)
    with pytest.raises(recall_client.NotFound):
        client.delete_bundle(path.stem)
    with pytest.raises(FileNotFoundError):
        client.put_bundle(tmp_path / "nothing.safetensors")


def test_a_network_of_images_cannot_be_explained(client: Any) -> None:
    classifier = client.train(["right", "left"], seed=2).wait(60)
    with pytest.raises(recall_client.UnsupportedQuery, match="this one is no linear head in features"):
        classifier.explain(toy_pictures("left", 1, seed=9)[0])


def test_the_same_request_gives_the_same_classifier(client: Any, tmp_path: Path) -> None:
    first, second, other = (client.train(["left", "middle"], seed=seed).wait(60) for seed in (4, 4, 5))
    files = [
        trained.download(tmp_path / f"{number}.safetensors") for number, trained in enumerate((first, second, other))
    ]
    contents = [path.read_bytes() for path in files]
    assert first.id == second.id != other.id and contents[0] == contents[1] != contents[2]
    assert first.state.file is not None and first.state.file.sha256 == sha256(contents[0]).hexdigest()


def test_an_own_idempotency_key_belongs_to_one_request(client: Any) -> None:
    key = f"today, {type(client).__name__}"
    first = client.train(["left", "right"], seed=70, idempotency_key=key)
    assert client.train(["left", "right"], seed=70, idempotency_key=key).id == first.id
    with pytest.raises(recall_client.Conflict):
        client.train(["left", "middle"], seed=70, idempotency_key=key)


@pytest.mark.parametrize(
    "names", [("glühbirne", "été"), ("two words", "a/b"), ("a\\b", "50% off"), ("猫", "🐻‍❄️"), ("a;b=c", "[x] 'y' <z>")]
)
def test_a_class_may_have_any_printable_name(client: Any, tmp_path: Path, names: tuple[str, str]) -> None:
    photo = tmp_path / "ete.png"
    Image.fromarray(toy_pictures("right", 1, seed=5)[0]).save(photo)
    several = {names[0]: toy_pictures("left", 3, seed=5), names[1]: [photo, photo.read_bytes(), Image.open(photo)]}
    classifier = client.train(several).wait(60)
    assert classifier.labels == names
    assert classifier.state.pictures == {names[0]: 3, names[1]: 3}
    assert classifier.quality is not None and set(classifier.quality.per_label) == set(names)
    (said,) = classifier.predict([photo])
    assert set(said.probabilities) == set(names)


def test_a_thousand_pictures_are_predicted_in_one_call(client: Any) -> None:
    many = {"left": toy_pictures("left", 500, seed=3), "right": toy_pictures("right", 500, seed=3)}
    classifier = client.train(many).wait(60)
    assert classifier.state.pictures == {"left": 500, "right": 500}
    assert len(classifier.predict(numpy.concatenate(list(many.values())))) == 1000
    with pytest.raises(recall_client.InvalidRequest, match="1000"):
        client.train({"left": toy_pictures("left", 1000, seed=3), "right": toy_pictures("right", 1, seed=3)})


def test_a_training_is_followed_event_by_event(client: Any) -> None:
    classifier = client.train(["left", "right", "middle"], seed=8)
    events = list(classifier.events())
    assert [each.number for each in events] == list(range(1, len(events) + 1))
    assert (events[0].status, events[-1].status) == ("queued", "succeeded")
    assert [each.number for each in classifier.events(after=2)] == [each.number for each in events[2:]]
    assert list(classifier.events(after=events[-1].number)) == []


def test_classifiers_are_listed_found_and_deleted(client: Any) -> None:
    classifier = client.train(["left", "right"])
    assert classifier.id in [each.id for each in client.classifiers()]
    assert [each.id for each in client.classifiers(limit=None)][:2] == [each.id for each in client.classifiers(limit=2)]
    assert client.classifier(classifier.id).labels == ("left", "right")
    classifier.cancel()
    assert classifier.refresh().state.is_terminal and classifier.status in ("cancelled", "succeeded")
    classifier.delete()
    with pytest.raises(recall_client.NotFound):
        classifier.refresh()


def test_each_refusal_of_the_server_is_its_own_exception(client: Any) -> None:
    with pytest.raises(recall_client.UnknownLabel) as unknown:
        client.recall(["lfet"])
    assert unknown.value.suggestions[0] == "left" and unknown.value.parameter == "labels"
    with pytest.raises(recall_client.InvalidRequest):
        client.train(["left"])
    with pytest.raises(recall_client.UnreadablePicture):
        client.train({"left": [b"no picture"], "right": [b"no picture either"]})
    with pytest.raises(recall_client.InvalidRequest, match="per_label"):
        client.recall(["left"], per_label=0)
    with pytest.raises(recall_client.UnsupportedQuery):
        client.recall([[1.0, 2.0]], bundle="columns")
    with pytest.raises(recall_client.NotFound):
        client.classifier("0" * 32)


def test_an_upload_that_is_too_large_is_refused_before_it_is_sent(client: Any) -> None:
    with pytest.raises(recall_client.BodyTooLarge, match="83,886,080 bytes together, .* of 67,108,864"):
        client.train({"left": [bytes(40 * 2**20)], "right": [bytes(40 * 2**20)]})
    with pytest.raises(recall_client.UnreadablePicture):  # large, but not too large
        client.recall({"left": [bytes(20 * 2**20)]})


def test_an_address_without_a_server_is_reported() -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        with RecallClient(f"http://127.0.0.1:{held.getsockname()[1]}", retries=1) as client:
            with pytest.raises(recall_client.NoAnswer, match="is the server running?"):
                client.info()
