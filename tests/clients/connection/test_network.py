"""The environment's proxies and certificates matter for the addresses that they are for, and are named when wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2
import pytest

from recall_client import AsyncRecallClient, RecallClient
from recall_client.connection.network import certificates, proxy_for

SOCKS = "socks5://user:password@127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("client", [RecallClient, AsyncRecallClient])
@pytest.mark.parametrize(
    ("address", "exceptions"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1"),
        ("http://127.0.0.1:8000", "10.0.0.0/8,127.0.0.0/8"),
        ("http://localhost:8000", "localhost,example.org"),
        ("http://models.example.org", ".example.org"),
        ("https://example.org", "*"),
    ],
)
def test_a_proxy_for_other_addresses_is_ignored(
    monkeypatch: pytest.MonkeyPatch, client: type, address: str, exceptions: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", SOCKS)
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert proxy_for(address) is None
    client(address)


@pytest.mark.parametrize(
    ("variable", "address", "proxy"),
    [
        ("HTTP_PROXY", "http://example.org", "http://proxy:3128"),
        ("HTTPS_PROXY", "https://example.org", "http://proxy:3128"),
        ("ALL_PROXY", "https://example.org", "http://proxy:3128"),
        ("HTTP_PROXY", "https://example.org", None),
        ("HTTPS_PROXY", "http://example.org", None),
    ],
)
def test_a_proxy_is_used_for_its_scheme(
    monkeypatch: pytest.MonkeyPatch, variable: str, address: str, proxy: str | None
) -> None:
    monkeypatch.setenv(variable, "proxy:3128")
    monkeypatch.setenv("NO_PROXY", "example.com,not a network/8")
    found = proxy_for(address)
    assert (found and str(found.url)) == proxy


def test_a_socks_proxy_error_names_the_missing_package_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setattr("recall_client.connection.network.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", SOCKS)
    with pytest.raises(ImportError) as refused:
        RecallClient("http://example.org")
    assert "ALL_PROXY names a SOCKS proxy for http://example.org: " in str(refused.value)
    assert "pip install 'recall-client[socks]', or unset the variable, or set NO_PROXY" in str(refused.value)
    assert "password" not in str(refused.value)
    monkeypatch.setenv("ALL_PROXY", "gopher://user:password@proxy")
    with pytest.raises(ValueError, match="ALL_PROXY is not the address of a proxy") as caught:
        RecallClient("http://example.org")
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"not a certificate", b""])
def test_unreadable_certificates_are_named_if_they_are_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with RecallClient("http://127.0.0.1:8000"):
        pass
    with pytest.raises(OSError, match="SSL_CERT_FILE.*ca.pem.*cannot be read"):
        RecallClient("https://127.0.0.1:8000")
    with pytest.raises(OSError, match="SSL_CERT_FILE"):
        certificates("http://example.org", httpx2.Proxy("https://proxy"))
