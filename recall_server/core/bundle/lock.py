"""The lock file: digests of the bundles that an operator approved, checked whenever a bundle is loaded.

`bundles.lock` is in the artifacts folder and has the format of `sha256sum`: `sha256sum -c bundles.lock` checks it too.
If it exists, bundles that are not in it, or have another digest, are not served. Query encoders need no line, because
their digest is in the bundle's manifest. With a required signature (`signatures.py`), a lock that is missing or not
signed by the trusted key approves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.signatures import Signer
from recall_server.core.io.atomic import write_atomically
from recall_server.errors import InvalidBundle

LOCK_FILE = "bundles.lock"
SIGNATURE_FILE = f"{LOCK_FILE}.sig"
FOLDER = "bundles"
LARGEST_LOCK = 2**20
LINE = re.compile(rf"([0-9a-f]{{64}}) [ *]{FOLDER}/([^/\0]+)")  # sha256sum -b marks binary files with a star


@final
@dataclass(frozen=True)
class BundleLock:
    """Digests (SHA-256, hexadecimal) by the names of the files in `bundles/`."""

    digests: Mapping[str, str]

    @classmethod
    def read(cls, artifacts: Path, public_key: Path | None = None) -> Self | None:
        """The lock of an artifacts folder; None if there is none. Raises InvalidBundle if it cannot be read.

        A damaged lock is an error, or damaging it would unlock everything. With a public key, a missing lock and one
        that this key did not sign are errors too.
        """
        path = artifacts / LOCK_FILE
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_LOCK + 1)
        except FileNotFoundError:
            if public_key is not None:
                raise InvalidBundle(f"there is no {LOCK_FILE}, and a signed one is asked for") from None
            return None
        except OSError as error:
            raise InvalidBundle(f"{LOCK_FILE} cannot be read: {error.strerror}") from error
        if len(data) > LARGEST_LOCK:
            raise InvalidBundle(f"{LOCK_FILE} has more than {LARGEST_LOCK} bytes")
        if public_key is not None:
            Signer.read(public_key).check(data, artifacts / SIGNATURE_FILE)
        return cls(_parse(data))

    @classmethod
    def of(cls, artifacts: Path) -> Self:
        """A lock of the bundles that are in the folder now. Raises InvalidBundle for one that cannot be loaded."""
        paths = sorted((artifacts / FOLDER).glob("[!.]*.safetensors"))
        if not paths:
            raise InvalidBundle(f"there is no bundle in {FOLDER}/ of the artifacts folder to vouch for")
        return cls({path.name: MemoryBundle.load(path).sha256 or "" for path in paths})

    def write(self, artifacts: Path) -> None:
        """Write it into the folder. Raises StorageFailed."""
        lines = [f"{digest}  {FOLDER}/{name}\n" for name, digest in sorted(self.digests.items())]
        write_atomically(artifacts / LOCK_FILE, "".join(lines).encode())

    def check(self, file: str, sha256: str) -> None:
        """Raise InvalidBundle if `file` is not in the lock, or has another digest there."""
        locked = self.digests.get(file)
        if locked is None:
            raise InvalidBundle(f"{file} is not in {LOCK_FILE}; `recall-server lock` vouches for all that is there")
        if locked != sha256:
            raise InvalidBundle(f"{file} has sha256 {sha256}, but {LOCK_FILE} vouches for {locked}")


def _parse(data: bytes) -> dict[str, str]:
    digests: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise InvalidBundle(
                f"line {number} of {LOCK_FILE} is not a SHA-256, two blanks (or a blank and a star) and {FOLDER}/NAME"
            )
        digest, name = found.groups()
        if digests.setdefault(name, digest) != digest:
            raise InvalidBundle(f"line {number} of {LOCK_FILE} names {name} with a second digest")
    return digests
