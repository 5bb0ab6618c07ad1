"""The workers that the settings ask for."""

from __future__ import annotations

from recall_server.config import Settings
from recall_server.jobs.workers.backend import Backend
from recall_server.jobs.workers.local import LocalBackend
from recall_server.jobs.workers.ray.backend import RayBackend, RayCluster


def backend_of(settings: Settings) -> Backend:
    """Processes of this machine, or actors of a Ray cluster. They are not started yet."""
    threads = settings.worker_threads
    if settings.workers != "ray":
        return LocalBackend(device=settings.device, threads=threads, workers=settings.workers)
    cluster = RayCluster(settings.ray_address, settings.ray_cpus, settings.ray_gpus, settings.ray_seconds)
    return RayBackend(cluster, workers=settings.ray_workers, threads=threads)
