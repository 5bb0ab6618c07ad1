"""What `recall` and `train` send, and what they refuse to send."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import httpx2
import numpy
import pytest
import torch

import recall_client
from recall_client import RecallClient
from tests.clients.client.test_client import RECALLED


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
