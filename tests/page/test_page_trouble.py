"""The page: lost connections, absent servers, proxies and API keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient

from recall_server.api.app import create_app
from recall_server.config.settings import Settings
from recall_server.jobs.rows.files import ClassifierFiles
from recall_server.jobs.rows.store import SqlJobStore
from recall_server.jobs.training_jobs import TrainingJobs
from recall_server.library.library import Library
from recall_server.service.service import RecallService, job_limits
from tests.page.conftest import LABELS, OpenPage, look_inside, name_classes
from tests.page.line import Line
from tests.recall_server.api.live import listening
from tests.recall_server.serving_examples import ManualBackend, write_artifacts

KEY = "a-key-that-is-long-enough-to-be-one"


@pytest.fixture
def line(address: str) -> Iterator[Line]:
    port = urlsplit(address).port
    assert port is not None
    with Line(port) as line:
        yield line


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[str]:
    """The address of a server that wants a key, with one that may read."""
    settings = Settings(state=tmp_path, min_free_bytes=0, api_keys=f"reader:read:{KEY}")
    backend = ManualBackend(eager=True)
    jobs = TrainingJobs(SqlJobStore.open("sqlite://"), ClassifierFiles(tmp_path), backend, job_limits(settings))
    jobs.open()
    library = Library.load(write_artifacts(tmp_path / "artifacts"), device="cpu")
    app = create_app(RecallService(library, jobs, settings))
    with TestClient(app), listening(app) as (host, port):
        yield f"http://{host}:{port}"


def begin_endless(page: Any) -> None:
    name_classes(page, "this", "that")
    page.click("#train")
    page.locator("#progress-text", has_text="Step").wait_for()


def test_a_failed_training_is_explained(page: Any) -> None:
    def fail(route: Any) -> None:
        record = route.fetch().json()
        error = {"type": "/problems/training-failed", "title": "Training failed", "detail": "the loss is infinite"}
        route.fulfill(json=record | {"status": "failed", "error": error, "seconds": None})

    page.route("**/classifier/*/events", lambda route: route.fulfill(status=204))
    page.route(re.compile(r"/classifier/[0-9a-f]+$"), fail)
    name_classes(page, *LABELS[:2])
    page.click("#train")
    page.get_by_text("The training failed. The loss is infinite.", exact=True).wait_for()
    page.locator("#train:enabled").wait_for()
    assert not page.locator("#try").is_visible()


def test_a_training_is_followed_through_a_lost_connection(open_page: OpenPage, line: Line) -> None:
    page = open_page(at=line.address, trouble=True)
    begin_endless(page)
    line.cut()
    page.get_by_text("The connection is lost. The training continues without this page").first.wait_for()
    line.mend()
    page.locator("#progress-text", has_text="Step").wait_for()
    page.click("#cancel")
    page.locator("#progress-text", has_text="Stopped.").wait_for()
    page.locator("#train:enabled").wait_for()
    assert not page.locator("#train-error").is_visible()


def test_a_training_is_found_again_after_a_reload(page: Any) -> None:
    begin_endless(page)
    page.reload()
    page.locator("#progress-text", has_text="Step").wait_for()
    page.click("#cancel")
    page.locator("#progress-text", has_text="Stopped.").wait_for()


def test_a_lost_server_is_reported_and_found_again(open_page: OpenPage, line: Line) -> None:
    page = open_page(at=line.address, trouble=True)
    name_classes(page, "Bag")
    look_inside(page, "fashion-mnist")
    line.cut()
    page.select_option("#first", "Bag")
    page.locator("#look-error", has_text="The server does not answer").wait_for()
    page.locator("#state", has_text="Trying again").wait_for()
    line.mend()
    page.locator("#state", has_text="The server is back").wait_for()
    page.locator("#recalled[aria-label*=Bag]").wait_for()  # what was asked for in vain came without being asked again
    page.locator("#look-error").wait_for(state="hidden")
    assert page.locator("#boxes input[type=text]").first.input_value() == "Bag"  # and nothing that was chosen is lost


def test_a_page_that_comes_before_its_server_waits_for_it(open_page: OpenPage, line: Line) -> None:
    page = open_page(at=line.address, trouble=True)
    page.route("**/health/ready", lambda route: route.abort())
    page.route("**/bundles", lambda route: route.abort())
    page.reload()
    page.locator("#state", has_text="The server does not answer").wait_for()
    page.unroute_all()
    page.locator("#state", has_text="The server is back").wait_for()
    page.locator("#cards .face img").first.wait_for()


@pytest.mark.parametrize("status", [200, 502])
def test_an_html_page_of_a_proxy_is_not_taken_for_an_answer(open_page: OpenPage, status: int) -> None:
    page = open_page(trouble=True)
    look_inside(page, "fashion-mnist")
    page.route(
        "**/recall?*",
        lambda route: route.fulfill(status=status, content_type="text/html", body="<html>Bad gateway</html>"),
    )
    page.select_option("#first", "Bag")
    words = "The answer is not from the server" if status == 200 else "answered with status 502"
    page.locator("#look-error", has_text=words).wait_for()


def test_a_server_with_keys_asks_for_one_and_says_what_it_may_do(open_page: OpenPage, locked: str) -> None:
    page = open_page(at=locked, trouble=True, shown=False)
    page.locator("#memories-error", has_text="API key").wait_for()
    for wrong in ("wrong", "falsch \N{SNOWMAN}"):
        page.fill("#key", wrong)
        page.keyboard.press("Enter")
        page.locator("#memories-error", has_text="key").wait_for()
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.locator("#cards .face img").first.wait_for()
    page.locator("#memories-error").wait_for(state="hidden")
    for index in range(2):
        page.locator("#cards .face").nth(index).click()
    page.click("#train")
    page.locator("#train-error", has_text="train").wait_for()
    page.reload()
    page.locator("#cards .face img").first.wait_for()  # the key stays in this tab
