"""Where the time of a training went."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from recall_server.jobs.rows.records import ClassifierRecord, JobStatus
from tests.recall_server.job_examples import record

CREATED = datetime.fromisoformat("2026-11-21T12:00:00+00:00")


def at(**seconds: float | None) -> ClassifierRecord:
    """A record whose moments are so many seconds after it was accepted."""
    moments: dict[str, Any] = {
        name: None if after is None else CREATED + timedelta(seconds=after) for name, after in seconds.items()
    }
    preparation = {"encoding": 0.25, "recalling": 0.125}
    return record(created_at=CREATED, preparation=preparation, status=JobStatus.SUCCEEDED, **moments)


def test_stages_are_listed_after_the_end_of_a_training() -> None:
    assert at().stages is None
    assert at(started_at=1).stages is None
    ended = at(started_at=2, finished_at=7).model_copy(update={"seconds": 4.5})
    assert ended.stages == {
        "encoding": 0.25,
        "recalling": 0.125,
        "queued": 2,
        "training": 4.5,
        "transferring": 0.5,
    }
    assert list(ended.stages or {}) == ["encoding", "recalling", "queued", "training", "transferring"]


def test_a_failed_training_lists_its_completed_stages() -> None:
    assert at(finished_at=3).stages == {"encoding": 0.25, "recalling": 0.125, "queued": 3}
    assert (at(started_at=1, finished_at=3).stages or {})["training"] == 2


@pytest.mark.parametrize("seconds", [5.0, 100.0])
def test_no_stage_is_negative_if_a_workers_clock_runs_fast(seconds: float) -> None:
    ended = at(started_at=1, finished_at=3).model_copy(update={"seconds": seconds})
    assert min((ended.stages or {}).values()) >= 0
