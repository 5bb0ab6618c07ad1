"""Where the server is and how it is asked: what every kind of client is made with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from recall_client._version import __version__
from recall_client.connection.retries import Retries
from recall_client.connection.server import Dialogue

BASE_URL = "http://127.0.0.1:8000"
TIMEOUT = 30.0  # seconds for one answer
RETRIES = 3
KEY_VARIABLE = "RECALL_API_KEY"


@dataclass(frozen=True)
class Configuration:
    """Raises ValueError where it is made of what cannot be: an address, a key or a number that makes no sense."""

    base_url: str
    timeout: float
    retries: int
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls, base_url: str, *, api_key: str | None, timeout: float, retries: int, headers: Mapping[str, str] | None
    ) -> Configuration:
        """Without a key, that of the environment; without one there, none."""
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        sent = {"User-Agent": f"recall-client/{__version__}", "Accept": "application/json"}
        if key.strip():
            sent["Authorization"] = f"Bearer {_checked(key.strip())}"
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout:g}")
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        return cls(_address(base_url), timeout, retries, sent | dict(headers or {}))

    def dialogue(self) -> Dialogue:
        """Whom every exchange asks."""
        return Dialogue(self.base_url, self.timeout, Retries(self.retries))

    def http_arguments(self) -> dict[str, Any]:
        """What either HTTP client of httpx2 is made with."""
        return {"base_url": self.base_url, "headers": dict(self.headers)}


def _address(base_url: str) -> str:
    """An address without the slash at its end. Raises ValueError for what is none."""
    address = base_url.strip().rstrip("/")
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{base_url!r} is no address of a server: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{base_url!r} is no address of a server; write it as in {BASE_URL}")
    return address


def _checked(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the API key (api_key, {KEY_VARIABLE}) must hold printable ASCII characters without spaces")
    return key
