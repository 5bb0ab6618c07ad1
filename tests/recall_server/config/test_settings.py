"""Settings come from the environment, and invalid values are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from recall_server.config import Settings

pytestmark = pytest.mark.usefixtures("clean_environment")


def test_the_defaults_listen_on_this_machine_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.artifacts) == ("127.0.0.1", 8000, Path("artifacts"))


def test_the_environment_sets_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECALL_PORT", "9000")
    monkeypatch.setenv("RECALL_ARTIFACTS", "/srv/memories")
    monkeypatch.setenv("RECALL_SOMETHING_OF_A_LATER_VERSION", "1")
    assert (Settings().port, Settings().artifacts) == (9000, Path("/srv/memories"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("device", "tpu"),
        ("max_pictures", "none"),
        ("request_rate", "many"),
        ("work_rate", "5/fortnight"),
        ("api_keys", "admin"),
        ("allow_public", "perhaps"),
    ],
)
def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECALL_{name.upper()}", value)
    with pytest.raises(ValidationError):
        Settings()
