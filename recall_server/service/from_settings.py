"""What the settings say of jobs: their limits, and the workers that train."""

from __future__ import annotations

from recall_server.config import Settings
from recall_server.jobs.limits import JobLimits
from recall_server.jobs.workers.backend import Backend
from recall_server.jobs.workers.local import LocalBackend
from recall_server.jobs.workers.ray.backend import RayBackend, RayCluster


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


def backend_of(settings: Settings) -> Backend:
    """Processes of this machine, or actors of a Ray cluster. They are not started yet."""
    threads = settings.worker_threads
    if settings.workers != "ray":
        return LocalBackend(device=settings.device, threads=threads, workers=settings.workers)
    cluster = RayCluster(settings.ray_address, settings.ray_cpus, settings.ray_gpus, settings.ray_seconds)
    return RayBackend(cluster, workers=settings.ray_workers, threads=threads)
