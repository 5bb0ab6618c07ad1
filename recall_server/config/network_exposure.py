"""Whether the settings allow that other machines reach a server, and that it reaches a Ray cluster."""

from __future__ import annotations

from recall_server.config.settings import Settings
from recall_server.core.hosts import is_loopback
from recall_server.core.ray_cluster import RayAddress


def exposure_refusal(settings: Settings) -> str | None:
    """Why `serve` refuses these settings: other machines can reach the server without a key. None if it does not."""
    if is_loopback(settings.host) or settings.keys or settings.allow_public:
        return None
    return (
        f"{settings.host} can be reached from other machines, and there are no API keys; set RECALL_API_KEYS, listen "
        "on 127.0.0.1, or say --allow-public where everybody who can reach it may use it"
    )


def cluster_refusal(settings: Settings) -> str | None:
    """Why `serve` refuses to use Ray with these settings; None if it does not, or if Ray is not asked for."""
    return RayAddress(settings.ray_address, "--ray-address").refusal() if settings.workers == "ray" else None


def trusts_this_machine_only(settings: Settings) -> bool:
    """Whether every program on this machine may use the server, so that requests of browsers must be checked."""
    return is_loopback(settings.host) and not settings.keys and not settings.allow_public
