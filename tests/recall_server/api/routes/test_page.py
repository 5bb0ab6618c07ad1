"""The page as files: who gets it, that nothing in it comes from elsewhere, and that it stays small."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.recall_server.api.conftest import Open

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
WEB = Path(str(files("recall_server") / "web"))
FILES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file())


def test_a_browser_gets_the_page_and_other_clients_the_index(client: TestClient) -> None:
    page, index = client.get("/", headers=BROWSER), client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Memory recall</h1>" in page.text
    assert index.json()["name"] == "recall-server"
    assert page.headers["vary"] == index.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_page_is_served_and_an_unchanged_one_is_304(client: TestClient, name: str) -> None:
    first = client.get(f"/web/{name}")
    assert first.status_code == 200
    assert first.content == (WEB / name).read_bytes()
    again = client.get(f"/web/{name}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "shared",
        "shared/",
        "..%2Fsettings.py",
        "../settings.py",
        "%2e%2e/errors.py",
        "shared/../../errors.py",
    ],
)
def test_only_files_of_the_page_are_served(client: TestClient, name: str) -> None:
    answer = client.get(f"/web/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_content_security_policy_allows_no_other_origin_and_no_inline_scripts(client: TestClient) -> None:
    policy = client.get("/", headers=BROWSER).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_the_page_contains_an_external_address(name: str) -> None:
    text = (WEB / name).read_text()
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_the_whole_page_is_below_200_kilobytes() -> None:
    assert sum((WEB / name).stat().st_size for name in FILES) < 200_000


def test_the_page_needs_no_key_but_its_data_do(open_app: Open) -> None:
    client = open_app(api_keys="someone:read:a-key-that-is-long-enough-to-be-one")
    assert client.get("/", headers=BROWSER).status_code == 200
    assert client.get("/web/main.js").status_code == 200
    assert client.get("/bundles").status_code == 401
