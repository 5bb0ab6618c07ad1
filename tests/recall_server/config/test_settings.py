"""Settings come from the environment, and invalid values are refused."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from recall_server.config import Settings
from recall_server.jobs.rows.store import SqlJobStore

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
def test_invalid_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RECALL_{name.upper()}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("name", ["what? state", "100%", "%2F", "a#b", "x?1", "x?2", "é 😀", "a&b=c", "file:a"])
def test_the_job_table_is_in_the_state_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    settings = Settings(state=tmp_path / name)
    with closing(SqlJobStore.open(settings.database_url)):
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name / "jobs.sqlite").is_file()
