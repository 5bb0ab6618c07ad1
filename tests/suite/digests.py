"""The digest of a file as HTTP announces it."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256


def repr_digest(content: bytes) -> dict[str, str]:
    """The header of RFC 9530 for this content."""
    return {"Repr-Digest": f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"}
