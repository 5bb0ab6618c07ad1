"""What the verbs of `RecallClient` send, what they make of the answers, and how they fail."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx2
import numpy
import pytest
import torch

import recall_client
from recall_client import AsyncRecallClient, RecallClient

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


def test_options_that_were_not_given_are_not_sent(server: Any, client: RecallClient) -> None:
    server.on("GET", "/recall", httpx2.Response(200, json=RECALLED))
    client.recall(["Sneaker"])
    assert server.asked[0].url.query == b"labels=Sneaker"


@pytest.mark.parametrize(
    ("queries", "body"),
    [
        ([{"Sneaker": 0.5, "Bag": 0.5}], {"mixtures": [{"Sneaker": 0.5, "Bag": 0.5}]}),
        ([[1, 0.5], (0, 2)], {"vectors": [[1.0, 0.5], [0.0, 2.0]]}),
        (numpy.eye(2, dtype=numpy.float32), {"vectors": [[1.0, 0.0], [0.0, 1.0]]}),
    ],
)
def test_mixtures_and_vectors_are_sent_as_json(server: Any, client: RecallClient, queries: Any, body: Any) -> None:
    server.on("POST", "/recall", httpx2.Response(200, json=RECALLED))
    client.recall(queries, per_label="all", bundle="fashion-mnist")
    assert json.loads(server.asked[0].content) == body
    assert dict(server.asked[0].url.params) == {"per_label": "all", "bundle": "fashion-mnist"}


def test_each_picture_is_a_part_named_after_its_class(server: Any, client: RecallClient) -> None:
    server.on("POST", "/recall", httpx2.Response(200, json=RECALLED))
    client.recall({"bear": [b"first", b"second"], "été": [b"third"]})
    body = server.asked[0].content
    assert [name.decode() for name in re.findall(rb' name="([^"]*)"; filename=', body)] == ["bear", "bear", "été"]
    assert [body.index(data) for data in (b"first", b"second", b"third")] == sorted(
        body.index(data) for data in (b"first", b"second", b"third")
    )


@pytest.mark.parametrize(
    ("queries", "body"),
    [
        ([{"Bag": numpy.float32(0.5)}], {"mixtures": [{"Bag": 0.5}]}),
        ([{"Bag": numpy.int64(1)}], {"mixtures": [{"Bag": 1.0}]}),
        ([{numpy.str_("Bag"): Fraction(1, 2)}], {"mixtures": [{"Bag": 0.5}]}),
        ([{"Bag": True}], {"mixtures": [{"Bag": 1.0}]}),
        ([{"Mu\u0308ller": torch.tensor(0.5)}], {"mixtures": [{"M\u00fcller": 0.5}]}),
        (torch.eye(2), {"vectors": [[1.0, 0.0], [0.0, 1.0]]}),
        ([numpy.array([1, 2], dtype=numpy.int8)], {"vectors": [[1.0, 2.0]]}),
    ],
)
def test_numbers_of_any_kind_are_sent_as_floats(server: Any, client: RecallClient, queries: Any, body: Any) -> None:
    server.on("POST", "/recall", httpx2.Response(200, json=RECALLED))
    client.recall(queries)
    assert json.loads(server.asked[0].content) == body


def test_names_are_sent_in_composed_unicode(server: Any, client: RecallClient, describe: Any) -> None:
    server.on("GET", "/recall", httpx2.Response(200, json=RECALLED))
    server.on("POST", "/recall", httpx2.Response(200, json=RECALLED))
    server.on("POST", "/classifier", describe("queued"))
    server.on("GET", "/bundles/a/similarity", httpx2.Response(404))
    client.recall(["Mu\u0308ller"])
    assert server.asked[-1].url.params["labels"] == "M\u00fcller"
    client.train(["e\u0301te\u0301", "hiver"])
    assert json.loads(server.asked[-1].content) == {"labels": ["\u00e9t\u00e9", "hiver"]}
    client.recall({"Mu\u0308ller": [b"1"]})
    assert "M\u00fcller".encode() in server.asked[-1].content
    with pytest.raises(recall_client.NotFound):
        client.similarity("a", ["Mu\u0308ller"])
    assert server.asked[-1].url.params["labels"] == "M\u00fcller"


def test_names_that_need_joiners_are_sent(server: Any, client: RecallClient, describe: Any) -> None:
    server.on("POST", "/classifier", describe("queued"))
    names = ["🐻\u200d❄️", "می\u200cخواهم", "👩\u200d🚀"]
    client.train({name: [b"1"] for name in names})
    assert all(name.encode() in server.asked[0].content for name in names)


@pytest.mark.parametrize(
    ("method", "queries", "error", "message"),
    [
        ("train", [0, 1], TypeError, "is a string, not 0; write '0'"),
        ("train", ["cat", None], TypeError, "is a string, not None"),
        ("train", {0: [b""]}, TypeError, "is a string, not 0; write '0'"),
        ("train", {"Mu\u0308ller": [b""], "M\u00fcller": [b""]}, ValueError, "names that look the same: 'Müller'"),
        ("train", {"cat": [b""], "cat\u200b": [b""]}, ValueError, r"invisible character '\\u200b'"),
        ("train", {"\ufeffcat": [b""]}, ValueError, "invisible character"),
        ("train", {"ca\u00adt": [b""]}, ValueError, "invisible character"),
        ("train", {"cat\u200d": [b""]}, ValueError, "invisible character"),
        ("train", {"\u202ecat": [b""]}, ValueError, "invisible character"),
        ("train", {" \u3000": [b""]}, ValueError, "no visible character"),
        ("recall", [{"Bag": "much"}], TypeError, "hold numbers, not 'much'"),
        ("recall", [{"Bag": None}], TypeError, "hold numbers, not None"),
        ("recall", [["1", "2"]], TypeError, "hold numbers, not '1'"),
        ("recall", [{1: 0.5}], TypeError, "is a string, not 1"),
        ("recall", "Sneaker", TypeError, r"write \['Sneaker'\]"),
        ("recall", [], ValueError, "nothing to recall"),
        ("recall", ["Sneaker", {"Bag": 1.0}], TypeError, "one call takes labels, mixtures or vectors"),
        ("recall", [1.0, 2.0], TypeError, "not 1.0"),
        ("recall", {}, ValueError, "there are no classes"),
        ("recall", {"bear": []}, ValueError, "bear: there are no pictures"),
        ("recall", {"the %22bear": [b""]}, ValueError, "%22 in a form stands for another character"),
        ("recall", {"bear%0A": [b""]}, ValueError, "%0A in a form stands for another character"),
        ("recall", {"the\tbear": [b""]}, ValueError, "holds control characters"),
        ("recall", {"b\udce9ar": [b""]}, ValueError, "holds control characters"),
        ("recall", {"": [b""]}, ValueError, "name of a class"),
    ],
)
def test_invalid_queries_are_refused_unsent(  # noqa: PLR0917
    server: Any, client: RecallClient, method: str, queries: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        getattr(client, method)(queries)
    assert server.asked == []


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


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (422, "invalid-request", "InvalidRequest"),
        (400, "invalid-request", "InvalidRequest"),
        (422, "unknown-label", "UnknownLabel"),
        (422, "ambiguous-label", "AmbiguousLabel"),
        (422, "unreadable-picture", "UnreadablePicture"),
        (422, "unsupported-query", "UnsupportedQuery"),
        (413, "picture-too-large", "PictureTooLarge"),
        (413, "body-too-large", "BodyTooLarge"),
        (404, "not-found", "NotFound"),
        (409, "not-ready", "NotReady"),
        (507, "storage-failed", "StorageFailed"),
        (500, "internal-error", "ServerFailed"),
        (422, "of-a-later-server", "InvalidRequest"),
        (401, "unauthorised", "Unauthorised"),
        (403, "forbidden", "Forbidden"),
        (409, "conflict", "Conflict"),
        (429, "overloaded", "Overloaded"),
        (503, "unavailable", "Unavailable"),
        (401, "of-a-later-server", "Unauthorised"),
        (403, "of-a-later-server", "Forbidden"),
        (405, "method-not-allowed", "InvalidRequest"),
        (406, "not-acceptable", "InvalidRequest"),
        (408, "request-timeout", "InvalidRequest"),
        (409, "of-a-later-server", "Problem"),
        (415, "unsupported-media-type", "InvalidRequest"),
        (429, "of-a-later-server", "Overloaded"),
        (502, "of-a-later-server", "ServerFailed"),
        (503, "of-a-later-server", "Unavailable"),
    ],
)
def test_each_problem_type_is_its_own_error(
    server: Any, client: RecallClient, status: int, kind: str, expected: str
) -> None:
    server.refuse("GET", "/recall", status, kind, parameter="labels")
    with pytest.raises(recall_client.Problem, match=f"^about {kind}$") as caught:
        client.recall(["Sneaker"])
    assert type(caught.value).__name__ == expected
    assert (caught.value.status, caught.value.parameter) == (status, "labels")


def test_errors_include_suggestions(server: Any, client: RecallClient) -> None:
    server.refuse("GET", "/recall", 422, "unknown-label", suggestions=["Sneaker"])
    with pytest.raises(recall_client.UnknownLabel) as unknown:
        client.recall(["Snaeker"])
    assert unknown.value.suggestions == ("Sneaker",)
    server.refuse("GET", "/recall", 422, "ambiguous-label", candidates=["a:Bag", "b:Bag"])
    with pytest.raises(recall_client.AmbiguousLabel) as ambiguous:
        client.recall(["Bag"])
    assert ambiguous.value.candidates == ("a:Bag", "b:Bag")
    server.refuse("GET", "/recall", 422, "invalid-request", errors=[{"parameter": "seed", "detail": "too small"}])
    with pytest.raises(recall_client.InvalidRequest, match="about invalid-request; seed: too small"):
        client.recall(["Bag"], seed=-1)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>"),
        ({"Content-Type": "application/problem+json"}, b"{broken"),
        ({"Content-Type": "application/problem+json"}, b'{"detail": 7}'),
        ({}, b""),
    ],
)
def test_an_error_of_a_proxy_names_the_request(
    server: Any, client: RecallClient, headers: dict[str, str], content: bytes
) -> None:
    server.on("GET", "/info", httpx2.Response(502, headers=headers, content=content))
    with pytest.raises(recall_client.ServerFailed, match="GET http://fake/info was answered 502 Bad Gateway"):
        client.info()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            httpx2.Response(200, content=b"<html>"),
            "GET http://fake/bundles does not have the expected form; body: ",
        ),
        (
            httpx2.Response(200, headers={"Content-Type": "text/html; charset=utf-8"}, content=b"<h1>Log in</h1>"),
            "GET http://fake/bundles is text/html, not application/json; is it a recall server?",
        ),
        (httpx2.Response(200, json={"bundles": [{"name": "a"}]}), "bundles.0.sha256: Field required"),
        (httpx2.Response(302, headers={"Location": "/login"}), "status 302"),
    ],
)
def test_an_answer_of_a_foreign_server_is_refused(
    server: Any, client: RecallClient, answer: httpx2.Response, message: str
) -> None:
    server.on("GET", "/bundles", answer)
    with pytest.raises(recall_client.UnexpectedAnswer, match=message):
        client.bundles()


def test_recalled_pictures_that_are_no_data_uris_are_refused(server: Any, client: RecallClient) -> None:
    for uri in ("https://elsewhere/1.png", "data:image/png;base64,?"):
        query = RECALLED["recalled"][0] | {"images": [uri]}  # type: ignore[index,operator]
        server.on("GET", "/recall", httpx2.Response(200, json=RECALLED | {"recalled": [query]}))
        with pytest.raises(recall_client.UnexpectedAnswer, match="recalled.0.images.0"):
            client.recall(["Sneaker"])


def test_a_server_that_is_not_there_and_one_that_hangs_are_told_apart(server: Any, client: RecallClient) -> None:
    server.on("GET", "/info", httpx2.ConnectError("Connection refused"), httpx2.ReadTimeout("too slow"))
    with pytest.raises(recall_client.NoAnswer, match="GET http://fake/info got no answer .Connection refused.") as gone:
        client.info()
    assert not isinstance(gone.value, TimeoutError)
    with pytest.raises(TimeoutError, match="not answered within 30 s"):
        client.info()


@pytest.mark.parametrize("address", ["http://fake/", " http://fake ", "http://fake"])
def test_a_slash_after_the_address_makes_no_difference(server: Any, address: str) -> None:
    server.on("GET", "/info", httpx2.ConnectError("Connection refused"))
    with RecallClient(address, retries=0, transport=httpx2.MockTransport(server)) as client:
        with pytest.raises(recall_client.NoAnswer, match="GET http://fake/info"):
            client.info()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8000", "", "ftp://host", "http://", "/info", "http://host:port", "http://h/?x", "http://h#x"]
)
def test_an_invalid_server_address_is_explained(address: str) -> None:
    with pytest.raises(ValueError, match="not the address of a server"):
        RecallClient(address)
    with pytest.raises(ValueError, match="not the address of a server"):
        AsyncRecallClient(address)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"retries": -1}, "retries must be 0 or more"),
        ({"api_key": "two words"}, "API key"),
        ({"api_key": "clé"}, "API key"),
        ({"timeout": float("nan")}, "timeout must be more than 0"),
        ({"headers": {"X-Team": "été"}}, "the header 'X-Team' cannot be sent"),
        ({"headers": {"X-Team": "a\r\nHost: b"}}, "the header 'X-Team' cannot be sent"),
        ({"headers": {"X Team": "a"}}, "the header 'X Team' cannot be sent"),
    ],
)
def test_invalid_arguments_of_a_client_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RecallClient(**arguments)
    assert "two words" not in str(caught.value)  # a key does not belong into a log


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


def test_every_exception_is_exported_and_has_a_common_base() -> None:
    exported = [getattr(recall_client, name) for name in recall_client.__all__]
    errors = [value for value in exported if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) == 29
    assert all(issubclass(error, recall_client.RecallError) for error in errors)
