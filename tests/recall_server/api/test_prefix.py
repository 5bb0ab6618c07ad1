"""Below a prefix that a proxy removes, links, Location and the addresses in the page lead where they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from recall_client import RecallClient
from tests.recall_server.api.conftest import Open
from tests.recall_server.api.live import listening
from tests.recall_server.api.prefix_proxy import behind_a_prefix

LABELS = {"labels": ["left", "right"]}


def links_in(answer: Any) -> list[str]:
    """Every link of a JSON answer."""
    if isinstance(answer, list):
        return [link for each in answer for link in links_in(each)]
    if not isinstance(answer, dict):
        return []
    own = [link for link in answer.get("links", {}).values() if link is not None]
    return own + [link for value in answer.values() for link in links_in(value)]


@pytest.mark.process
@pytest.mark.parametrize("prefix", ["/recall", "/some/pre.fix", "/classifier"])
def test_every_link_leads_through_the_proxy(open_app: Open, prefix: str) -> None:
    client = open_app(root_path=prefix)
    with listening(client.app) as address, behind_a_prefix(prefix, *address) as base:
        with httpx2.Client(timeout=120) as outside:
            made = outside.post(f"{base}/classifier", json=LABELS, headers={"Prefer": "wait=60"})
            assert made.status_code == 201
            assert outside.get(urljoin(base, made.headers["location"])).json()["id"] == made.json()["id"]
            paths = ("", "classifier", "bundles", "bundles/columns")
            answers = [made, *(outside.get(f"{base}/{path}") for path in paths)]
            links = {link for answer in answers for link in links_in(answer.json())}
            assert len(links) > 12
            for link in links:
                status = outside.get(urljoin(base, link)).status_code
                assert status == (
                    405 if link.endswith(("/predict", "/explain", "/cancel")) else 422 if link[-1] == "=" else 200
                ), link
            assert outside.get(f"{base}/openapi.json").json()["servers"] == [{"url": prefix}]
            assert outside.get(f"{base}/bundles/none").json()["instance"] == f"{prefix}/bundles/none"


@pytest.mark.process
def test_a_redirect_leads_through_the_proxy(open_app: Open) -> None:
    client = open_app(root_path="/recall")
    with listening(client.app) as address, behind_a_prefix("/recall", *address) as base:
        answer = httpx2.get(f"{base}/bundles/", follow_redirects=True)
    assert (answer.status_code, urlsplit(str(answer.url)).path) == (200, "/recall/bundles")


@pytest.mark.process
@pytest.mark.parametrize("root_path", ["", "/recall"])
def test_the_client_works_below_a_prefix(open_app: Open, root_path: str, tmp_path: Path) -> None:
    client = open_app(root_path=root_path)
    with listening(client.app) as address, behind_a_prefix("/recall", *address) as base, RecallClient(base) as outside:
        classifier = outside.train(["left", "right"]).wait()
        assert outside.classifier(classifier.id).status == "succeeded"
        assert classifier.download(tmp_path / "classifier.safetensors").stat().st_size


@pytest.mark.process
@pytest.mark.parametrize("root_path", ["", "/recall"])
def test_all_files_of_the_page_are_found_below_the_prefix(open_app: Open, root_path: str) -> None:
    client = open_app(root_path=root_path)
    with listening(client.app) as address, behind_a_prefix("/recall", *address) as base:
        with httpx2.Client(timeout=120) as outside:
            found, seen = [f"{base}/"], set()
            while found:
                path = found.pop()
                answer = outside.get(path, headers={"Accept": "text/html, */*;q=0.8"})
                assert answer.status_code == 200, path
                seen.add(path)
                named = re.findall(r"""(?:href|src)="([^"#]+)"|from "([^"]+)";|import "([^"]+)";""", answer.text)
                found += {urljoin(path, next(filter(None, each))) for each in named} - seen
    assert len(seen) > 10
    assert all(path.startswith(f"{base}/") for path in seen)


@pytest.mark.parametrize("root_path", ["recall", "/recall/", "/", "/re call", "//", "/a?b"])
def test_a_prefix_that_is_no_path_is_refused(open_app: Open, root_path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        open_app(root_path=root_path)


def test_without_a_prefix_links_are_paths(client: TestClient) -> None:
    assert client.post("/classifier", json=LABELS).headers["location"].startswith("/classifier/")
