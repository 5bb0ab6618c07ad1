"""The settings of a connection, checked: address, API key, time-out, retries, headers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from recall_client._version import __version__
from recall_client.connection.network import certificates, proxy_for

BASE_URL = "http://127.0.0.1:8000"
TIMEOUT = 30.0  # seconds per answer
RETRIES = 3
KEY_VARIABLE = "RECALL_API_KEY"

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_Http = TypeVar("_Http")


@dataclass(frozen=True)
class Settings:
    """How to reach one server; `headers` are those of every request, the API key included."""

    base_url: str
    timeout: float
    retries: int
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(
        cls, base_url: str, *, api_key: str | None, timeout: float, retries: int, headers: Mapping[str, str] | None
    ) -> Settings:
        """Check the arguments of a client; without a key, RECALL_API_KEY is used. Raises ValueError."""
        key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
        sent = {"User-Agent": f"recall-client/{__version__}", "Accept": "application/json"}
        if key.strip():
            sent["Authorization"] = f"Bearer {_checked_key(key.strip())}"
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout:g}")
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        return cls(_checked_address(base_url), timeout, retries, sent | _checked_headers(headers or {}))

    def make(self, kind: Callable[..., _Http], transport: Any) -> _Http:
        """Return an HTTP client of httpx2. Raises ValueError or ImportError for a proxy that cannot be used."""
        arguments: dict[str, Any] = {"base_url": self.base_url, "headers": dict(self.headers), "trust_env": False}
        if transport is not None:
            return kind(transport=transport, **arguments)
        proxy = proxy_for(self.base_url)
        return kind(proxy=proxy, verify=certificates(self.base_url, proxy), **arguments)


def _checked_address(base_url: str) -> str:
    address = base_url.strip().rstrip("/")
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{base_url!r} is not the address of a server: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or "?" in address or "#" in address:
        raise ValueError(f"{base_url!r} is not the address of a server; write it like {BASE_URL}")
    return address


def _checked_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the API key (api_key, {KEY_VARIABLE}) must hold printable ASCII characters without spaces")
    return key


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ValueError(f"the header {name!r} cannot be sent: its value must hold printable ASCII characters")
    return dict(headers)
