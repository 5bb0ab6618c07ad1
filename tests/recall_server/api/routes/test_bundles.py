"""PUT and DELETE /bundles/NAME: who may, under which conditions, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recall_server.library import Library, WatchedLibrary
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.guards.test_access import API_KEYS, KEYS
from tests.recall_server.api.requests import parts, problem
from tests.recall_server.serving_examples import label_bundle

MEDIA = {"Content-Type": "application/vnd.safetensors"}
Following = Callable[..., TestClient]


@pytest.fixture
def following(open_app: Open, tmp_path: Path) -> Following:
    """A server that follows a folder with the bundle `first`."""
    folder = tmp_path / "artifacts"
    label_bundle("first", ("a", "b", "c")).save(folder / "bundles" / "first.safetensors")
    library = WatchedLibrary(lambda previous: Library.load(folder, device="cpu", previous=previous), folder)
    return lambda **settings: open_app(bundles=library, artifacts=folder, **settings)


def bundle(name: str, *labels: str) -> bytes:
    return label_bundle(name, labels or ("d", "e", "f")).to_bytes()


def test_a_bundle_is_handed_in_replaced_and_removed(following: Following) -> None:
    client = following()
    made = client.put("/bundles/second", content=bundle("second"), headers=MEDIA)
    assert made.status_code == 201
    said = made.json()
    assert (said["name"], said["labels"], made.headers["location"]) == ("second", ["d", "e", "f"], "/bundles/second")
    assert made.headers["etag"] == f'"{said["sha256"]}"'
    assert client.get("/bundles/second").json()["sha256"] == said["sha256"]
    assert client.get("/recall?labels=second:d").status_code == 200
    again = client.put("/bundles/second", content=bundle("second", "g", "h", "i"), headers=MEDIA)
    assert (again.status_code, again.json()["labels"]) == (200, ["g", "h", "i"])
    assert client.delete("/bundles/second").status_code == 204
    problem(client.get("/bundles/second"), 404, "not-found")
    problem(client.delete("/bundles/second"), 404, "not-found")


def test_conditions_say_what_may_be_replaced(following: Following) -> None:
    client = following()
    served = client.get("/bundles/first").json()["sha256"]
    data, new = bundle("first"), {**MEDIA, "If-None-Match": "*"}
    document = problem(client.put("/bundles/first", content=data, headers=new), 412, "precondition-failed")
    assert served in document["detail"]
    for wrong in ('"0000"', f'W/"{served[:-1]}"'):
        answer = client.put("/bundles/first", content=data, headers={**MEDIA, "If-Match": wrong})
        problem(answer, 412, "precondition-failed")
    absent = {**MEDIA, "If-Match": "*"}
    problem(client.put("/bundles/second", content=bundle("second"), headers=absent), 412, "precondition-failed")
    problem(client.delete("/bundles/first", headers={"If-Match": '"0"'}), 412, "precondition-failed")
    assert client.get("/bundles/first").json()["sha256"] == served
    exact = {**MEDIA, "If-Match": f'"{served}"'}
    assert client.put("/bundles/first", content=data, headers=exact).status_code == 200
    assert client.put("/bundles/second", content=bundle("second"), headers=new).status_code == 201


def test_other_requests_are_refused(following: Following) -> None:
    client = following(max_body_bytes=40_000)
    problem(client.put("/bundles/second", content=b"", headers=MEDIA), 422, "invalid-request")
    problem(client.put("/bundles/second", content=bundle("second")[:-1], headers=MEDIA), 422, "invalid-request")
    problem(client.put("/bundles/second", files=parts("left")), 415, "unsupported-media-type")
    problem(client.put("/bundles/second", content=bytes(40_001), headers=MEDIA), 413, "body-too-large")
    for name in (".second", "%20", "a" * 101, "s%C3%A9cond", "second%0A", "..%2Fsecond"):
        answer = client.put(f"/bundles/{name}", content=bundle("second"), headers=MEDIA)
        assert answer.status_code in (404, 405, 422), name
    assert [each["name"] for each in client.get("/bundles").json()["bundles"]] == ["first"]


def test_a_key_of_scope_admin_is_needed(following: Following) -> None:
    client = following(api_keys=API_KEYS)
    for scope, key in KEYS.items():
        headers = {**MEDIA, "X-API-Key": key}
        put = client.put("/bundles/second", content=bundle("second"), headers=headers)
        deleted = client.delete("/bundles/second", headers=headers)
        assert (put.status_code, deleted.status_code) == ((201, 204) if scope.name == "ADMIN" else (403, 403))


def test_a_public_server_without_keys_lets_nobody_change_its_bundles(following: Following) -> None:
    client = following(host="0.0.0.0", allow_public=True)
    answer = client.put("/bundles/second", content=bundle("second"), headers=MEDIA)
    assert "set RECALL_API_KEYS" in problem(answer, 403, "forbidden")["detail"]
    problem(client.delete("/bundles/first"), 403, "forbidden")


def test_a_page_of_another_origin_cannot_hand_in_a_bundle(following: Following) -> None:
    headers = {**MEDIA, "Origin": "http://elsewhere.example"}
    problem(following().put("/bundles/second", content=bundle("second"), headers=headers), 403, "forbidden")


def test_a_full_disk_is_a_507(following: Following) -> None:
    answer = following(min_free_bytes=2**60).put("/bundles/second", content=bundle("second"), headers=MEDIA)
    problem(answer, 507, "storage-failed")
