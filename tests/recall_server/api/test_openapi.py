"""The server does what its OpenAPI document says: whatever is sent, the answer is one that was declared.

Requests are generated from the document, valid ones and invalid ones, and sent over a real socket. What is valid by the
document can still be refused, for no document knows the labels that are loaded; so half of the valid requests are given
real labels, pictures and classifiers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.recall_server.api.conftest import Open
from tests.recall_server.api.live import listening
from tests.recall_server.api.requests import parts

pytestmark = pytest.mark.process

EXAMPLES = 6  # of each operation and mode


@pytest.fixture
def client(open_app: Open) -> TestClient:
    return open_app(max_wait_seconds=0.01, queue_limit=10_000)


@pytest.fixture
def identifier(client: TestClient) -> str:
    found: str = client.post("/classifier", json={"labels": ["left", "right"]}).json()["id"]
    return found


@pytest.fixture
def schema(client: TestClient) -> Iterator[Any]:
    with listening(client.app) as (host, port):
        yield schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json", config=SchemathesisConfig())


def make_real(case: Any, identifier: str) -> None:
    """Put in labels, a classifier or pictures that exist, wherever the operation takes some."""
    if "identifier" in (case.path_parameters or {}):
        case.path_parameters["identifier"] = identifier
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = "places"
    known = ["near", "far"] if case.path.startswith("/bundles/") else ["left", "right"]
    case.query = {"labels": known} if "labels" in (case.query or {}) else {}
    if isinstance(case.body, dict) and case.media_type == "application/json":
        case.body = {"labels": ["left", "right"]} if "labels" in case.body else {"mixtures": [{"left": 0.5}]}


def ask(case: Any, session: requests.Session, *, real: bool) -> int:
    """Send the request and check the answer against the document; gives back the status."""
    if real and case.media_type == "multipart/form-data":
        name = "images" if case.path.endswith(("predict", "explain")) else None
        files = parts("left", "right", name=name)
        response = case.call(session=session, files=files, data=None)
    else:
        response = case.call(session=session)
    # A label, a bundle or a classifier that does not exist is valid by the document.
    case.validate_response(response, excluded_checks=[positive_data_acceptance])
    return int(response.status_code)


def ask_for_all(operation: Any, mode: GenerationMode, session: requests.Session, identifier: str) -> Counter[int]:
    """Generated requests to one operation; gives back how often each status was the answer."""
    seen: Counter[int] = Counter()
    can_be_real = mode is GenerationMode.POSITIVE and operation.method.upper() != "DELETE"

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans() if can_be_real else st.just(False))
    def send(case: Any, real: bool) -> None:
        if real:
            make_real(case, identifier)
        seen[ask(case, session, real=real)] += 1

    try:
        send()
    except Unsatisfiable:  # nothing about it can be invalid
        assert mode is GenerationMode.NEGATIVE and not operation.body
    return seen


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_was_declared(schema: Any, identifier: str, mode: GenerationMode) -> None:
    with requests.Session() as session:
        statuses = {
            f"{operation.method.upper()} {operation.path}": ask_for_all(operation, mode, session, identifier)
            for operation in (result.ok() for result in schema.get_all_operations())
        }
    assert sum(seen.total() for seen in statuses.values()) > 5 * EXAMPLES
    if mode is GenerationMode.POSITIVE:
        never = {name for name, seen in statuses.items() if not any(200 <= status < 300 for status in seen)}
        # The classifier is a network of images, which cannot be explained, and the server follows no folder.
        assert never == {
            "DELETE /classifier/{identifier}",
            "POST /classifier/{identifier}/explain",
            "PUT /bundles/{name}",
            "DELETE /bundles/{name}",
        }, statuses
