"""What the verbs of `RecallClient` send, and what they make of the answers."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy
import pytest

import recall_client
from recall_client import RecallClient

PNG = b"\x89PNG of a sneaker"
RECALLED = {
    "seed": None,
    "bundles": [{"name": "fashion-mnist", "sha256": "ab"}],
    "recalled": [
        {
            "name": "Sneaker",
            "bundle": "fashion-mnist",
            "target": {"Sneaker": 1.0},
            "rows": [3],
            "image": {"channels": 1, "height": 28, "width": 28},
            "images": ["data:image/png;base64," + base64.b64encode(PNG).decode()],
        }
    ],
}


GREY = numpy.full((8, 8), 128, dtype=numpy.uint8)


def bundle_body(name: str, labels: list[str], *, queries: str = "labels", space: str = "pixels") -> dict[str, Any]:
    return {
        "space": space,
        "name": name,
        "sha256": "ab",
        "file_bytes": 33000,
        "queries": queries,
        "labels": labels,
        "groups": {},
        "image": {"channels": 1, "height": 28, "width": 28},
        "network": "convnet:filters=128,depth=3",
        "dataset": name,
        "images_per_class": 1.0,
        "accuracy": [
            {"network": "convnet", "protocol": "paper", "runs": 5, "mean": 0.85, "spread": 0.002, "data": "test"}
        ],
        "a_field_of_a_later_server": 1,
    }


def safetensors(tensors: dict[str, numpy.ndarray[Any, Any]], metadata: dict[str, Any], dtype: str = "F32") -> bytes:
    header: dict[str, Any] = {"__metadata__": {"recall": json.dumps(metadata)}}
    body = b""
    for name, tensor in tensors.items():
        data = tensor.astype("<f4").tobytes()
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + body


def test_labels_are_recalled_as_pictures_with_their_targets(server: Any, client: RecallClient) -> None:
    server.on("GET", "/recall", httpx2.Response(200, json=RECALLED))
    recalled = client.recall(["Sneaker", "Été & co"], per_label=1, seed=7)
    assert server.asked[0].url.params.multi_items() == [
        ("labels", "Sneaker"), ("labels", "Été & co"), ("per_label", "1"), ("seed", "7"),
    ]  # fmt: skip
    assert server.asked[0].headers["accept"] == "application/json"
    (query,) = recalled.recalled
    assert (query.name, query.target, query.rows, query.image.height) == ("Sneaker", {"Sneaker": 1.0}, (3,), 28)
    assert query.images[0].png == PNG


def test_recalled_arrays_are_the_exact_floats(server: Any, client: RecallClient, tmp_path: Path) -> None:
    images = numpy.linspace(-0.3, 1.2, 2 * 1 * 3 * 4, dtype=numpy.float32).reshape(2, 1, 3, 4)
    targets = numpy.array([[1, 0], [0.25, 0.75]], dtype=numpy.float32)
    names = {"labels": ["Sneaker", "Bag"], "names": ["a", "b"]}
    metadata = {"bundles": RECALLED["bundles"], "rows": [[0], [5]], "seed": 4} | names
    content = safetensors({"images": images, "targets": targets}, metadata)
    server.on("GET", "/recall", httpx2.Response(200, content=content))
    recalled = client.recall_arrays(["Sneaker", "Bag"])
    assert server.asked[0].headers["accept"] == "application/vnd.safetensors"
    assert recalled.images.dtype == numpy.float32 and numpy.array_equal(recalled.images, images)
    assert numpy.array_equal(recalled.targets, targets)
    assert (recalled.labels, recalled.names, recalled.rows) == (("Sneaker", "Bag"), ("a", "b"), ((0,), (5,)))
    assert (recalled.seed, recalled.bundles[0].name) == (4, "fashion-mnist")
    recalled.images[0] = 0  # the caller's own, not a view of the answer
    assert recalled.features().shape == (2, 12) and recalled.classes().tolist() == [0, 1]
    with numpy.load(recalled.save(tmp_path / "recalled.npz")) as archive:
        assert numpy.array_equal(archive["targets"], targets) and archive["labels"].tolist() == ["Sneaker", "Bag"]
    with pytest.raises(ValueError, match="must end in .npz"):
        recalled.save(tmp_path / "recalled.npy")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        struct.pack("<Q", 10**12),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        safetensors({"images": numpy.zeros(1), "targets": numpy.zeros(1)}, {}),
        safetensors({"images": numpy.zeros(1)}, {"bundles": [], "labels": [], "names": [], "rows": [], "seed": None}),
        safetensors({"images": numpy.zeros(2), "targets": numpy.zeros(2)},
                    {"bundles": [], "labels": [], "names": [], "rows": [], "seed": None}, dtype="F64"),
        safetensors({"images": numpy.zeros(2), "targets": numpy.zeros(2)},
                    {"bundles": [], "labels": [], "names": [], "rows": [], "seed": None})[:-4],
    ],
)  # fmt: skip
def test_damaged_arrays_are_refused(server: Any, client: RecallClient, content: bytes) -> None:
    server.on("GET", "/recall", httpx2.Response(200, content=content))
    with pytest.raises(recall_client.UnexpectedAnswer, match="the recalled arrays"):
        client.recall_arrays(["Sneaker"])


def test_a_contact_sheet_is_one_picture(server: Any, client: RecallClient) -> None:
    server.on("GET", "/recall", httpx2.Response(200, content=PNG))
    assert client.contact_sheet(["Sneaker"]).png == PNG
    assert server.asked[0].headers["accept"] == "image/png"


@pytest.mark.parametrize("verb", ["bases_sheet", "contact_sheet"])
def test_a_page_instead_of_a_picture_is_refused(server: Any, client: RecallClient, verb: str) -> None:
    page = httpx2.Response(200, headers={"Content-Type": "text/html"}, content=b"<h1>Please log in</h1>")
    server.on("GET", "/bundles/a/bases", page)
    server.on("GET", "/recall", page)
    with pytest.raises(recall_client.UnexpectedAnswer, match="is not a PNG file"):
        client.bases_sheet("a") if verb == "bases_sheet" else client.contact_sheet(["Bag"])


def test_a_card_must_be_markdown(server: Any, client: RecallClient) -> None:
    markdown = {"Content-Type": "text/markdown; charset=utf-8"}
    server.on("GET", "/bundles/a/card", httpx2.Response(200, headers=markdown, content="# Été".encode()))
    assert client.bundle_card("a") == "# Été"
    server.on("GET", "/bundles/a/card", httpx2.Response(200, headers={"Content-Type": "text/html"}, content=b"<h1>"))
    with pytest.raises(recall_client.UnexpectedAnswer, match="text/html, not text/markdown"):
        client.bundle_card("a")


def test_bases_and_similarity_are_typed(server: Any, client: RecallClient) -> None:
    bundle, image = {"name": "a", "sha256": "ab"}, {"channels": 1, "height": 14, "width": 14}
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    server.on("GET", "/bundles/a/bases", httpx2.Response(200, json={"bundle": bundle, "image": image, "bases": [uri]}))
    assert (client.bases("a").bases[0].png, client.bases("a").image.height) == (PNG, 14)
    likeness = {"bundle": bundle, "labels": ["x", "y"], "similarity": [[1.0, 0.5], [0.5, 1.0]]}
    server.on("GET", "/bundles/a/similarity", httpx2.Response(200, json=likeness))
    assert client.similarity("a").similarity[0] == (1.0, 0.5)


def test_labels_stand_beside_classes_of_pictures(
    server: Any, client: RecallClient, describe: Callable[..., httpx2.Response]
) -> None:
    server.on("POST", "/classifier", describe("succeeded"))
    client.train({"mine": [GREY]}, labels=["bear", "deer"])
    assert server.asked[-1].url.params.get_list("labels") == ["bear", "deer"]
    with pytest.raises(ValueError, match="give all labels as classes"):
        client.train(["bear"], labels=["deer"])


def test_labels_are_qualified_if_two_bundles_share_them(server: Any, client: RecallClient) -> None:
    loaded = [
        bundle_body("a", ["Bag", "Coat"]),
        bundle_body("b", ["Bag", "zero"]),
        bundle_body("c", ["Coat"], queries="images"),
    ]
    server.on("GET", "/bundles", httpx2.Response(200, json={"bundles": loaded}))
    assert client.labels() == ["a:Bag", "Coat", "b:Bag", "zero"]
    assert [bundle.name for bundle in client.bundles()] == ["a", "b", "c"]


def test_a_label_of_images_and_of_features_needs_no_bundle(server: Any, client: RecallClient) -> None:
    loaded = [bundle_body("a", ["Bag", "Coat"]), bundle_body("b", ["Bag", "zero"], space="features")]
    server.on("GET", "/bundles", httpx2.Response(200, json={"bundles": loaded}))
    assert client.labels() == ["Bag", "Coat", "zero"]


def test_a_bundle_has_its_manifest_with_unknown_fields(server: Any, client: RecallClient) -> None:
    body = bundle_body("fashion-mnist", ["Bag"]) | {"manifest": {"format_version": 1}}
    server.on("GET", "/bundles/fashion-mnist", httpx2.Response(200, json=body))
    bundle = client.bundle("fashion-mnist")
    assert bundle.manifest == {"format_version": 1}
    assert (bundle.accuracy[0].mean, bundle.accuracy[0].runs) == (0.85, 5)
    assert bundle.model_extra == {"a_field_of_a_later_server": 1}


def test_a_name_cannot_escape_its_path(server: Any, client: RecallClient) -> None:
    server.refuse("GET", "/bundles/../classifier", 404, "not-found")
    with pytest.raises(recall_client.NotFound):
        client.bundle("../classifier")
    assert server.asked[0].url.raw_path == b"/bundles/..%2Fclassifier"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_would_change_the_path_are_refused_unsent(server: Any, client: RecallClient, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a bundle"):
        client.bundle(name)
    assert server.asked == []


@pytest.mark.parametrize("address", ["http://fake/", " http://fake ", "http://fake"])
def test_a_slash_after_the_address_makes_no_difference(server: Any, address: str) -> None:
    server.on("GET", "/info", httpx2.ConnectError("Connection refused"))
    with RecallClient(address, retries=0, transport=httpx2.MockTransport(server)) as client:
        with pytest.raises(recall_client.NoAnswer, match="GET http://fake/info"):
            client.info()


def test_the_api_key_comes_from_the_argument_or_the_environment(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("GET", "/bundles", httpx2.Response(200, json={"bundles": []}))
    for variable, argument, sent in (
        ("", None, None),
        ("of-environment\n", None, "Bearer of-environment"),
        ("of-environment", "own", "Bearer own"),
        ("of-environment", "", None),
    ):
        monkeypatch.setenv("RECALL_API_KEY", variable)
        with RecallClient("http://fake", api_key=argument, transport=httpx2.MockTransport(server)) as client:
            client.bundles()
        assert server.asked[-1].headers.get("authorization") == sent


def test_custom_headers_and_the_user_agent_are_sent_with_every_request(server: Any) -> None:
    server.on(
        "GET", "/prefix/info", httpx2.Response(200, json={"name": "n", "version": "0.1.0", "limits": {"classes": 2}})
    )
    transport = httpx2.MockTransport(server)
    with RecallClient("http://fake/prefix/", headers={"Authorization": "Bearer k"}, transport=transport) as client:
        assert client.info().limits == {"classes": 2.0}
    assert server.asked[0].headers["authorization"] == "Bearer k"
    assert server.asked[0].headers["user-agent"] == f"recall-client/{recall_client.__version__}"
