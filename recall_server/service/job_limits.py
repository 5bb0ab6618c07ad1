"""The limits of jobs, as the settings give them."""

from __future__ import annotations

from recall_server.config import Settings
from recall_server.jobs.limits import JobLimits


def job_limits(settings: Settings) -> JobLimits:
    """The limits of jobs in the settings, where 0 means no limit, which is None in `JobLimits`."""
    return JobLimits(
        queue=settings.queue_limit,
        queue_seconds=settings.queue_seconds,
        training_seconds=settings.training_seconds,
        attempts=settings.training_attempts,
        keep_seconds=settings.keep_days * 86_400 or None,
        keep_bytes=settings.keep_bytes or None,
        lease_seconds=settings.lease_seconds,
    )
