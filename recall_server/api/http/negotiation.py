"""Parses the headers Accept, If-Match and If-None-Match (RFC 9110), Prefer (RFC 7240) and Idempotency-Key."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from recall_server.errors import InvalidRequest

WAIT = re.compile(r"""(?:^|[,;])\s*wait\s*=\s*"?(\d+(?:\.\d+)?)"?\s*(?=[,;]|$)""", re.IGNORECASE)
IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")


def accepted(request: Request, offers: Sequence[str]) -> str:
    """The offer with the highest quality in Accept; the first among equals or without Accept.

    Raises HTTPException 406 if Accept excludes all offers.
    """
    ranges = [
        _parse(part) for header in request.headers.getlist("accept") for part in header.split(",") if part.strip()
    ]
    if not ranges:
        return offers[0]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise HTTPException(406, f"this can be sent as {', '.join(offers)}, none of which is accepted")
    return best


def preferred_wait(request: Request, longest: float) -> float | None:
    """Seconds from `Prefer: wait=N`, at most `longest`. None without a valid preference."""
    found = WAIT.search(",".join(request.headers.getlist("prefer")))
    return None if found is None else min(float(found.group(1)), longest)


def names_etag(headers: Headers, etag: str) -> bool:
    """Whether If-None-Match contains this ETag or `*`, which is answered with a 304."""
    named = _named(headers, "if-none-match")
    return etag in named or "*" in named


def check_conditions(headers: Headers, sha256: str | None) -> None:
    """Raise HTTPException 412 where If-Match or If-None-Match forbids to change what has this digest, if anything."""
    if "if-match" in headers and (sha256 is None or not {"*", f'"{sha256}"'}.intersection(_named(headers, "if-match"))):
        raise HTTPException(412, f"If-Match does not name what is there, {_what(sha256)}")
    if sha256 is not None and names_etag(headers, f'"{sha256}"'):
        raise HTTPException(412, f"If-None-Match names what is there, {_what(sha256)}")


def _what(sha256: str | None) -> str:
    return "which is nothing" if sha256 is None else f"which has sha256 {sha256}"


def _named(headers: Headers, header: str) -> list[str]:
    """The entity tags of a header."""
    return [part.strip().removeprefix("W/") for part in ",".join(headers.getlist(header)).split(",")]


def idempotency_key(request: Request) -> str | None:
    """The value of Idempotency-Key, or None. Raises InvalidRequest."""
    key = request.headers.get("idempotency-key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key must have 1 to 255 printable ASCII characters", parameter="Idempotency-Key"
        )
    return key


def _parse(part: str) -> tuple[str, float]:
    """ "image/png; q=0.5" -> ("image/png", 0.5); an invalid quality counts as 1."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                break
            return media_range, quality if math.isfinite(quality) else 1.0
    return media_range, 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers the offer; 0 if none does."""
    kind = offer.partition("/")[0]
    for pattern in (offer, f"{kind}/*", "*/*"):
        found = [quality for media_range, quality in ranges if media_range == pattern]
        if found:
            return max(found)
    return 0.0
