"""Whether other machines can reach a server, and whether its settings allow that."""

from __future__ import annotations

import ipaddress

from recall_server.config.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Names other than localhost count as public, and are not resolved."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def exposure_refusal(settings: Settings) -> str | None:
    """Why `serve` refuses these settings: other machines can reach the server without a key. None if it does not."""
    if is_loopback(settings.host) or settings.keys or settings.allow_public:
        return None
    return (
        f"{settings.host} can be reached from other machines, and there are no API keys; set RECALL_API_KEYS, listen "
        "on 127.0.0.1, or say --allow-public where everybody who can reach it may use it"
    )


def trusts_this_machine_only(settings: Settings) -> bool:
    """Whether every program on this machine may use the server, so that requests of browsers must be checked."""
    return is_loopback(settings.host) and not settings.keys and not settings.allow_public
