"""Nobody is served beyond this machine by accident."""

from __future__ import annotations

import pytest

from recall_server.config import Settings, exposure_refusal, trusts_this_machine_only
from recall_server.core.hosts import is_loopback

KEY = "a:read:0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "[::1]", "localhost", "LocalHost"])
def test_listening_on_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert exposure_refusal(Settings(host=host)) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "2001:db8::1", "example.org", "", "127.1"]
)
def test_listening_elsewhere_needs_a_key_or_allow_public(host: str) -> None:
    refusal = exposure_refusal(Settings(host=host))
    assert refusal is not None
    assert "RECALL_API_KEYS" in refusal and "--allow-public" in refusal
    assert exposure_refusal(Settings(host=host, api_keys=KEY)) is None
    assert exposure_refusal(Settings(host=host, allow_public=True)) is None


def test_requests_of_browsers_are_checked_if_the_server_has_no_keys() -> None:
    assert trusts_this_machine_only(Settings())
    assert not trusts_this_machine_only(Settings(api_keys=KEY))
    assert not trusts_this_machine_only(Settings(allow_public=True))
    assert not trusts_this_machine_only(Settings(host="0.0.0.0", api_keys=KEY))
