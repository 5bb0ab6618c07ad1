"""The proxy and the certificates that the environment asks for, looked up for one address.

httpx2 prepares every proxy and the certificates of the environment whether the address needs them or not, and fails
with errors that do not name the variable at fault.
"""

from __future__ import annotations

import os
import ssl
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.request import getproxies, proxy_bypass

import httpx2

_VARIABLES = "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
_SOCKS = "pip install 'recall-client[socks]', or unset the variable, or set NO_PROXY"


def proxy_for(address: str) -> httpx2.Proxy | None:
    """Return the proxy of the environment (or of the system) for `address`, None without one or where NO_PROXY says so.

    Raises ValueError for a proxy that is not an address, ImportError for a SOCKS proxy without the package it needs.
    """
    url, proxies = httpx2.URL(address), getproxies()
    chosen = proxies.get(url.scheme) or proxies.get("all")
    if not chosen or proxy_bypass(url.host) or _in_network(url.host, proxies.get("no", "")):
        return None
    try:
        proxy = httpx2.Proxy(chosen if "://" in chosen else f"http://{chosen}")
    except (ValueError, httpx2.InvalidURL) as error:  # the address may hold a password, so it is not repeated
        raise ValueError(f"{_VARIABLES} is not the address of a proxy that is http, https or socks5") from error
    if proxy.url.scheme.startswith("socks") and find_spec("socksio") is None:
        raise ImportError(f"{_VARIABLES} names a SOCKS proxy for {address}: {_SOCKS}")
    return proxy


def certificates(address: str, proxy: httpx2.Proxy | None) -> ssl.SSLContext:
    """Return the TLS settings for `address` by way of `proxy`. Raises OSError that names the variables at fault.

    Plain HTTP gets settings that trust nobody, without a look at the environment.
    """
    if httpx2.URL(address).scheme == "http" and (proxy is None or proxy.url.scheme != "https"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
        raise OSError(f"the certificates of {named or 'this system'} cannot be read: {error}") from error


def _in_network(host: str, exceptions: str) -> bool:
    """Tell whether NO_PROXY holds a network, like 192.168.0.0/16, with this address in it."""
    for exception in exceptions.split(","):
        try:
            if "/" in exception and ip_address(host) in ip_network(exception.strip(), strict=False):
                return True
        except ValueError:  # a name, not an address
            continue
    return False
