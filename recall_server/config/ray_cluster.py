"""Whether the settings of a Ray cluster can be used. Nothing of Ray is imported, and nothing is connected to."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path

from recall_server.config.network_exposure import is_loopback
from recall_server.config.settings import Settings

OLDEST, NEWEST = (2, 52), (2, 60)  # token authentication began with the first; the suite runs with the second
ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")


def cluster_refusal(settings: Settings) -> str | None:
    """Why `serve` refuses to use Ray with these settings; None if it does not, or if Ray is not asked for."""
    if settings.workers != "ray":
        return None
    return _version_fault() or _address_fault(settings.ray_address) or _token_fault(settings.ray_address)


def _version_fault() -> str | None:
    try:
        version = importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return "--workers ray needs Ray, which is not installed: pip install 'memory-recall[ray]'"
    if OLDEST <= tuple(int(part) for part in version.split(".")[:2]) <= NEWEST:
        return None
    oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
    return f"Ray {version} is installed; this server works with {oldest} to {newest}: pip install 'memory-recall[ray]'"


def _address_fault(address: str) -> str | None:
    found = ADDRESS.fullmatch(address)
    if found and 0 < int(found[2]) < 2**16:
        return None
    given = f"--ray-address {address}" if address else "no --ray-address"
    return (
        f"{given} is not the address of a running Ray cluster: write HOST:PORT of its head, such as 10.0.0.5:6379 "
        "(neither auto nor ray://, and the server starts no cluster)"
    )


def _token_fault(address: str) -> str | None:
    host = address.rpartition(":")[0]
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if is_loopback(host) or (mode == "token" and _has_token()):
        return None
    return (
        f"the Ray cluster at {address} can be reached from other machines, and runs the code of everybody who reaches "
        "it: start it with RAY_AUTH_MODE=token, and give the server RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN"
    )


def _has_token() -> bool:
    """Whether there is a token where Ray looks for one: in a variable, or in a file."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    try:
        return bool(path.expanduser().read_text().strip())
    except (OSError, RuntimeError, UnicodeDecodeError):
        return False
