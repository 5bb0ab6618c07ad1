"""API keys with scopes, stored as digests and compared in constant time.

A key is written `NAME:SCOPE:KEY`, and commas separate several. KEY is the key itself, or `sha256=` followed by its
digest in hexadecimal, so that the settings need not contain a secret. Logs and metrics show names, never keys.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Self, final

from recall_server.errors import Forbidden, Unauthorised

SHORTEST_KEY = 16  # characters, so that a random key cannot be guessed
DIGEST_PREFIX = "sha256="
NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}")
DIGEST = re.compile(r"[0-9a-f]{64}")


class Scope(IntEnum):
    """What a key allows. Each scope includes the ones before it."""

    READ = 1  # recall, predict, download, and look at everything
    TRAIN = 2  # train classifiers and cancel trainings
    ADMIN = 3  # delete classifiers, which callers may share


@final
@dataclass(frozen=True)
class ApiKey:
    """A key: its name, its scope, and the SHA-256 of the key itself."""

    name: str
    scope: Scope
    digest: bytes


@final
@dataclass(frozen=True)
class ApiKeys:
    """All keys of a server. Without any key, everybody who can reach the server may do everything."""

    keys: tuple[ApiKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `NAME:SCOPE:KEY,...`. Raises ValueError, whose message contains no key."""
        keys: list[ApiKey] = []
        for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
            key = _parse_one(entry, number)
            if any(key.name == other.name or key.digest == other.digest for other in keys):
                raise ValueError(f"key {number}: its name or the key itself is given twice")
            keys.append(key)
        return cls(tuple(keys))

    def identify(self, presented: str | None) -> ApiKey:
        """The key that a request presents. Raises Unauthorised if there is none, or if it is not known."""
        if presented is None:
            raise Unauthorised("an API key is needed; send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`")
        digest = hashlib.sha256(presented.encode(errors="surrogatepass")).digest()
        # All keys are compared, each in constant time, so that the duration reveals nothing.
        matches = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if not matches:
            raise Unauthorised("this server knows no such API key")
        return matches[0]


def check_scope(key: ApiKey, needed: Scope) -> None:
    """Raise Forbidden if the scope of the key is too narrow."""
    if key.scope < needed:
        raise Forbidden(f"the API key {key.name!r} has the scope {_word(key.scope)}, but this takes {_word(needed)}")


def _parse_one(entry: str, number: int) -> ApiKey:
    name, _, rest = entry.partition(":")
    scope, _, secret = rest.partition(":")
    if not NAME.fullmatch(name) or entry.count(":") < 2:
        raise ValueError(f"key {number}: write NAME:SCOPE:KEY with a name of letters, digits, '_', '.' and '-'")
    if scope.upper() not in Scope.__members__:
        raise ValueError(f"key {number}: the scope must be {', '.join(map(_word, Scope))}")
    if secret.startswith(DIGEST_PREFIX):
        digest = secret.removeprefix(DIGEST_PREFIX).lower()
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"key {number}: sha256= must be followed by 64 hexadecimal digits")
        return ApiKey(name, Scope[scope.upper()], bytes.fromhex(digest))
    if len(secret) < SHORTEST_KEY or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError(
            f"key {number}: a key has {SHORTEST_KEY} printable ASCII characters or more, without blanks; "
            "`openssl rand -hex 32` makes one"
        )
    return ApiKey(name, Scope[scope.upper()], hashlib.sha256(secret.encode()).digest())


def _word(scope: Scope) -> str:
    return scope.name.lower()
