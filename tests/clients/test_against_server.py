"""The client and the server as two processes that talk over a socket: every verb once, on a memory of toy pictures."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy
import onnxruntime
import pytest
import torch
from PIL import Image

import recall_client
import recall_server
from recall_client import RecallClient
from recall_server.bundle import MemoryBundle
from recall_server.classifier import FreshClassifier
from recall_server.manifest import EncoderReference
from recall_server.memory import Pixels
from recall_server.networks import NetworkSpec, build_network
from recall_server.onnx_export import export_network
from recall_server.preprocessing import Standardise
from tests.recall_server.bundle_examples import example_bundle, example_manifest

SIDE = 8
LABELS = ("left", "right", "middle")


def toy_pictures(label: str, count: int, *, seed: int) -> numpy.ndarray:
    """Grey pictures uint8 [count, SIDE, SIDE] with a bright column where the label says, and noise all over."""
    pictures = numpy.random.default_rng(seed).integers(0, 100, (count, SIDE, SIDE), dtype=numpy.uint8)
    column = {"left": 1, "right": SIDE - 2, "middle": SIDE // 2}[label]
    pictures[:, :, column] = 255
    return pictures


def label_bundle() -> MemoryBundle:
    pixels = torch.from_numpy(numpy.stack([toy_pictures(label, 6, seed=1) for label in LABELS])[:, :, None] / 255.0)
    preprocessing = Standardise.fit(pixels.flatten(0, 1))
    memory = Pixels(preprocessing.to_model(pixels.flatten(0, 1)).unflatten(0, (len(LABELS), 6)).float())
    manifest = example_manifest(memory, preprocessing, name="columns", labels=LABELS)
    return MemoryBundle(manifest=manifest, memory=memory, preprocessing=preprocessing)


def picture_bundle(folder: Path) -> MemoryBundle:
    """A memory that pictures address, and its encoder in `folder`: an untrained network, as good here as any."""
    bundle = example_bundle()
    network = build_network(
        NetworkSpec(filters=4, depth=2), image_shape=(1, SIDE, SIDE), classes=bundle.memory.query_size
    )
    parameters = network.initialise(torch.Generator().manual_seed(3))
    encoder = export_network(network, parameters, bundle.preprocessing, (1, SIDE, SIDE), output="queries", metadata={})
    (folder / "toy.onnx").write_bytes(encoder)
    reference = EncoderReference(
        file="toy.onnx", sha256=sha256(encoder).hexdigest(), query_size=bundle.memory.query_size
    )
    manifest = example_manifest(
        bundle.memory, bundle.preprocessing, name="by-picture", queries="images", labels=LABELS, query_encoder=reference
    )
    return MemoryBundle(manifest=manifest, memory=bundle.memory, preprocessing=bundle.preprocessing)


@pytest.fixture(scope="module")
def address(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a running server with both bundles."""
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "bundles").mkdir()
    (folder / "encoders").mkdir()
    label_bundle().save(folder / "bundles" / "columns.safetensors")
    picture_bundle(folder / "encoders").save(folder / "bundles" / "by-picture.safetensors")
    return serve(folder)


@pytest.fixture
def client(address: str) -> Iterator[RecallClient]:
    with RecallClient(address) as client:
        yield client


def test_what_is_loaded_is_listed(client: RecallClient) -> None:
    assert [(bundle.name, bundle.queries) for bundle in client.bundles()] == [
        ("by-picture", "images"),
        ("columns", "labels"),
    ]
    assert client.labels() == list(LABELS)
    manifest = client.bundle("columns").manifest
    assert manifest is not None and manifest["memory"]["kind"] == "pixels"
    assert client.info().version == recall_server.__version__
    with pytest.raises(recall_client.NotFound, match="columns"):
        client.bundle("rows")


def test_recalled_pictures_arrays_and_sheet_show_the_same(client: RecallClient) -> None:
    recalled = client.recall(["left", "right"], per_label=2)
    arrays = client.recall_arrays(["left", "right"], per_label=2)
    assert [query.name for query in recalled.recalled] == list(arrays.names) == ["left", "right"]
    assert arrays.images.shape == (4, 1, SIDE, SIDE)
    assert numpy.array_equal(arrays.targets, [[1, 0], [1, 0], [0, 1], [0, 1]])
    shown = numpy.stack([picture.to_numpy() for query in recalled.recalled for picture in query.images])
    assert numpy.array_equal(shown, numpy.rint(arrays.images.clip(0, 1) * 255).transpose(0, 2, 3, 1))
    assert shown[0, :, 1].min() > 250 > 120 > shown[0, :, -2].max()
    assert client.contact_sheet(["left", "right"]).to_pillow().width > SIDE


def test_mixtures_vectors_and_pictures_are_recalled(client: RecallClient) -> None:
    (mixed,) = client.recall([{"left": 0.5, "right": 0.5}], seed=1).recalled
    assert mixed.target == {"left": 0.5, "right": 0.5}
    by_vector = client.recall_arrays([[0.5, 0.5, 0.0]], bundle="columns", seed=1)
    assert numpy.allclose(by_vector.images, client.recall_arrays([{"left": 0.5, "right": 0.5}], seed=1).images)
    by_picture = client.recall({"mine": toy_pictures("left", 2, seed=5), "yours": toy_pictures("right", 2, seed=5)})
    assert [query.name for query in by_picture.recalled] == ["mine", "yours"]
    assert by_picture.bundles[0].name == "by-picture"


def test_a_classifier_by_labels_is_right_about_pictures_it_never_saw(client: RecallClient, tmp_path: Path) -> None:
    progress: list[int] = []
    classifier = client.train(["right", "left"], seed=2)
    classifier.wait(60, on_progress=lambda state: progress.append(state.progress.done if state.progress else 0))
    assert classifier.labels == ("right", "left")
    unseen = [*toy_pictures("left", 5, seed=9), *toy_pictures("right", 5, seed=9)]
    predictions = classifier.predict(unseen)
    assert [said.label for said in predictions] == ["left"] * 5 + ["right"] * 5
    assert all(abs(sum(said.probabilities.values()) - 1) < 1e-4 for said in predictions)

    path = classifier.download(tmp_path / "columns.onnx")
    session = onnxruntime.InferenceSession(path)
    (probabilities,) = session.run(None, {"images": (numpy.stack(unseen)[:, None] / 255).astype(numpy.float32)})
    said = [[each.probabilities["right"], each.probabilities["left"]] for each in predictions]
    assert numpy.allclose(probabilities, said, atol=1e-4)

    kept = FreshClassifier.load(classifier.download(tmp_path / "columns.safetensors"))
    assert kept.predict(torch.from_numpy(numpy.stack(unseen)[:, None] / 255).float()) == [
        each.label for each in predictions
    ]


def test_the_same_request_gives_the_same_classifier(client: RecallClient, tmp_path: Path) -> None:
    first, second, other = (client.train(["left", "middle"], seed=seed).wait(60) for seed in (4, 4, 5))
    files = [
        trained.download(tmp_path / f"{number}.safetensors") for number, trained in enumerate((first, second, other))
    ]
    contents = [path.read_bytes() for path in files]
    assert first.id == second.id != other.id and contents[0] == contents[1] != contents[2]
    assert first.state.file is not None and first.state.file.sha256 == sha256(contents[0]).hexdigest()


def test_a_classifier_is_trained_from_a_few_pictures(client: RecallClient, tmp_path: Path) -> None:
    photo = tmp_path / "été.png"
    Image.fromarray(toy_pictures("right", 1, seed=5)[0]).save(photo)
    classifier = client.train({"glühbirne": toy_pictures("left", 3, seed=5), "été": [photo, photo.read_bytes()]}).wait(
        60
    )
    assert classifier.labels == ("glühbirne", "été")
    assert classifier.state.pictures == {"glühbirne": 3, "été": 2}
    (said,) = classifier.predict([photo])
    assert set(said.probabilities) == {"glühbirne", "été"}


def test_classifiers_are_listed_found_and_deleted(client: RecallClient) -> None:
    classifier = client.train(["left", "right"])
    assert classifier.id in [each.id for each in client.classifiers()]
    assert client.classifier(classifier.id).labels == ("left", "right")
    classifier.cancel()
    assert classifier.refresh().state.is_terminal
    classifier.delete()
    with pytest.raises(recall_client.NotFound):
        classifier.refresh()


def test_what_the_server_refuses_is_told_as_its_own_error(client: RecallClient) -> None:
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


def test_nobody_at_the_address_is_said_clearly() -> None:
    with socket.socket() as held:  # bound, but nobody listens
        held.bind(("127.0.0.1", 0))
        with RecallClient(f"http://127.0.0.1:{held.getsockname()[1]}") as client:
            with pytest.raises(recall_client.NoAnswer, match="is the server running?"):
                client.info()
