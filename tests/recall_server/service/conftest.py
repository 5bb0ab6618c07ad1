"""A service over small bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.library import Library
from recall_server.service import RecallService
from tests.recall_server.service.examples import Serve, service_with
from tests.recall_server.serving_examples import ManualBackend


@pytest.fixture
def serve(library: Library, tmp_path: Path) -> Serve:
    """A service that trains at once, with settings of the test's choice."""
    return lambda **settings: service_with(ManualBackend(eager=True), library, tmp_path, **settings)


@pytest.fixture
def service(serve: Serve) -> RecallService:
    return serve()
