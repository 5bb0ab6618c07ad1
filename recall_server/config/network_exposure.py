"""Who can reach the address that a server listens on, and whether that is wanted."""

from __future__ import annotations

import ipaddress

from recall_server.config.settings import Settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. Names other than localhost are not looked up: what they mean can change."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def exposure_refusal(settings: Settings) -> str | None:
    """Why these settings must not be served: beyond this machine without a key, and nobody said that it may be."""
    if is_loopback(settings.host) or settings.keys or settings.allow_public:
        return None
    return (
        f"{settings.host} can be reached from other machines, and there are no API keys; set RECALL_API_KEYS, listen "
        "on 127.0.0.1, or say --allow-public where everybody who can reach it may use it"
    )


def trusts_this_machine_only(settings: Settings) -> bool:
    """Whether being on this machine is all that it takes, so that the browsers on it need watching."""
    return is_loopback(settings.host) and not settings.keys and not settings.allow_public
