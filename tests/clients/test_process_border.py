"""Errors, values, classifiers and clients of the client survive pickling and copying."""

from __future__ import annotations

import contextlib
import inspect
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import httpx2
import numpy
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import recall_client
from recall_client import AsyncRecallClient, LocalClassifier, RecallClient, RecalledArrays
from recall_client.connection.retries import Retries
from recall_client.errors import Problem, ProblemDocument, RecallError, UnknownLabel
from tests.clients.conftest import classifier_body
from tests.clients.local.onnx_models import brightness_model
from tests.suite.copies import WAYS, modules

DOCUMENT = ProblemDocument(
    422, detail="no", parameter="labels", suggestions=("a",), errors=({"parameter": "seed", "detail": "small"},)
)


def classes(base: type | None = None) -> list[type]:
    found = {
        value
        for module in modules(recall_client, "recall_client.commands")
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__.startswith("recall_client.")
    }
    return sorted(
        (each for each in found if base is None or issubclass(each, base)), key=lambda each: each.__qualname__
    )


PLAIN = (
    1, "1", "2026-11-21T14:50:00Z", ("1",), ("data:image/png;base64,iVBORw==",), ((0.5, 1.0),), {"a": "1"}, {"a": 1.5},
    {"a": ("1",)}, ((1, 2),), ({"a": 1},),
)  # fmt: skip


def example(annotation: Any) -> Any:
    """A value that a field of this type accepts, and not None where the type has something else."""
    models = [
        model_example(each) for each in parts(annotation) if inspect.isclass(each) and issubclass(each, BaseModel)
    ]
    for candidate in [*models, *[(each,) for each in models], *[{"a": each} for each in models], *PLAIN]:
        with contextlib.suppress(ValidationError):
            TypeAdapter(annotation).validate_python(candidate)
            return candidate
    raise AssertionError(f"no example for {annotation}")


def parts(annotation: Any) -> Iterator[Any]:
    """The annotation, and those that it is composed of."""
    yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from parts(each)


def model_example(kind: type[BaseModel]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: example(hints[name]) for name in kind.model_fields}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", classes(RecallError), ids=lambda kind: kind.__name__)
def test_an_exception_is_equal_after_pickling(kind: type[RecallError], way: str) -> None:
    error = kind(DOCUMENT) if issubclass(kind, Problem) else kind("a sentence")
    error.add_note("seen on the way")
    other = WAYS[way](error)
    assert type(other) is kind
    assert (str(other), other.args, other.__notes__) == (str(error), error.args, error.__notes__)
    assert str(error) in ("a sentence", "no; seed: small")
    if issubclass(kind, Problem):
        assert (other.document, other.status, other.parameter) == (DOCUMENT, 422, "labels")


def test_every_error_is_exported() -> None:
    assert {kind.__name__ for kind in classes(RecallError)} <= set(recall_client.__all__)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", classes(BaseModel), ids=lambda kind: kind.__name__)
def test_an_answer_is_equal_after_pickling(kind: type[BaseModel], way: str) -> None:
    answer = kind.model_validate(model_example(kind) | {"a_field_of_a_later_server": [1]})
    other = WAYS[way](answer)
    assert type(other) is kind and other == answer and other.model_extra == answer.model_extra


def test_an_unpickled_handle_and_client_have_their_own_connections(server: Any) -> None:
    server.on("POST", "/classifier", httpx2.Response(200, json=classifier_body("queued")))
    with RecallClient("http://fake", api_key="k", timeout=7, retries=2, transport=Transport()) as client:
        classifier = client.train(["Sneaker", "Bag"])
        for way in ("pickle", "deepcopy"):
            other_client, other = WAYS[way]((client, classifier))
            assert (other.id, other.state) == (classifier.id, classifier.state)
            assert other.refresh().status == "succeeded"
            other_client.close()  # and the first one still answers
            assert client.bundles() == []
            settings = other_client._server.connection.settings
            assert (settings.timeout, settings.retries, settings.headers["Authorization"]) == (7, 2, "Bearer k")
    assert WAYS["pickle"](AsyncRecallClient("http://fake"))._server.connection.settings.base_url == "http://fake"


class Transport(httpx2.BaseTransport):
    """A network that can be pickled."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/bundles":
            return httpx2.Response(200, json={"bundles": []})
        return httpx2.Response(200, json=classifier_body("queued" if request.method == "POST" else "succeeded"))


@pytest.mark.parametrize("way", WAYS)
def test_an_unpickled_local_classifier_predicts_the_same(way: str) -> None:
    classifier = LocalClassifier(brightness_model(), name="pets.onnx")
    other = WAYS[way](classifier)
    images = numpy.linspace(0, 1, 32, dtype=numpy.float32).reshape(2, 1, 4, 4)
    assert numpy.array_equal(other.predict_arrays(images), classifier.predict_arrays(images))
    assert (other.labels, other.image, other.metadata) == (classifier.labels, classifier.image, classifier.metadata)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [each for each in classes() if is_dataclass(each)], ids=lambda kind: kind.__name__)
def test_plain_values_can_be_pickled(kind: type, way: str) -> None:
    values = {field.name: dataclass_example(kind, field.name) for field in fields(kind) if field.init}
    value = kind(**values)
    other = WAYS[way](value)
    assert type(other) is kind
    for name in values:
        assert repr(getattr(other, name)) == repr(getattr(value, name))


def dataclass_example(kind: type, name: str) -> Any:
    if kind is RecalledArrays and name in ("images", "targets"):
        return numpy.ones((1, 1), dtype=numpy.float32)
    special = {"retries": Retries(1), "clock": max, "connection": None}
    return special.get(name, "1")


def refuse(_: int) -> None:
    raise UnknownLabel(DOCUMENT)


def test_an_error_in_a_pool_of_processes_reaches_the_caller() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(UnknownLabel, match="no; seed: small") as caught:
            pool.submit(refuse, 1).result(timeout=60)
    assert caught.value.suggestions == ("a",)
