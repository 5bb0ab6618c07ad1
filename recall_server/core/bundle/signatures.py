"""Optional Ed25519 signatures of files (the extra `signatures`).

A signature is a file beside the signed one, as OpenSSL writes it; signing needs nothing of this project:

    openssl genpkey -algorithm ed25519 -out signing.pem && openssl pkey -in signing.pem -pubout -out signing.pub
    openssl pkeyutl -sign -rawin -inkey signing.pem -in bundles.lock -out bundles.lock.sig
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from recall_server.errors import InvalidBundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64


@final
@dataclass(frozen=True, eq=False)
class Signer:
    """A trusted signer: an Ed25519 public key."""

    key: Ed25519PublicKey

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key of a PEM file. Raises InvalidBundle for a missing file or another kind of key."""
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
            from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415
        except ImportError as error:
            raise InvalidBundle("signatures need the extra: pip install 'memory-recall[signatures]'") from error
        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise InvalidBundle(f"the public key {path.name} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InvalidBundle(f"{path.name} is not a public key in PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidBundle(f"{path.name} is no Ed25519 key, as `openssl genpkey -algorithm ed25519` makes them")
        return cls(key)

    def check(self, content: bytes, signature: Path) -> None:
        """Raise InvalidBundle unless the file `signature` is this signer's signature of `content`."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (there, or there were no key)

        try:
            with signature.open("rb") as file:
                signed = file.read(SIGNATURE_BYTES + 1)
        except OSError as error:
            reason = f"a signature is asked for, and {signature.name} cannot be read: {error.strerror}"
            raise InvalidBundle(reason) from error
        try:
            self.key.verify(signed, content)
        except InvalidSignature as error:
            reason = f"{signature.name} is no signature of {signature.stem} by the key that is trusted"
            raise InvalidBundle(reason) from error
