"""The lock file: the digests of the bundles that an operator has vouched for, checked whenever a bundle is loaded.

`bundles.lock` lies in the artifacts folder and has the lines of `sha256sum`, which can check it as well:
`sha256sum -c bundles.lock`. Where it is present, a bundle that it does not name, or names with another digest, is not
served. A query encoder needs no line: the digest of its file stands in the bundle's manifest. An operator may ask for
the lock to be signed (`signatures.py`): then no lock, or one that nobody trusted has signed, vouches for nothing.
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
LINE = re.compile(rf"([0-9a-f]{{64}}) [ *]{FOLDER}/([^/\0]+)")  # sha256sum -b marks binary files by a star


@final
@dataclass(frozen=True)
class BundleLock:
    """Digests (SHA-256, hexadecimal) by the names of the files in `bundles/`."""

    digests: Mapping[str, str]

    @classmethod
    def read(cls, artifacts: Path, public_key: Path | None = None) -> Self | None:
        """The lock of an artifacts folder; None where there is none. Raises InvalidBundle where it cannot be read.

        A lock that is damaged must not count as no lock, or damaging it would unlock everything. With a public key,
        one that is missing or that this key has not signed is no better than a damaged one.
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
        """A lock of the bundles as they lie in the folder now. Raises InvalidBundle for one that cannot be served."""
        paths = sorted((artifacts / FOLDER).glob("[!.]*.safetensors"))
        if not paths:
            raise InvalidBundle(f"there is no bundle in {FOLDER}/ of the artifacts folder to vouch for")
        return cls({path.name: MemoryBundle.load(path).sha256 or "" for path in paths})

    def write(self, artifacts: Path) -> None:
        """Put it into the folder; raises StorageFailed."""
        lines = [f"{digest}  {FOLDER}/{name}\n" for name, digest in sorted(self.digests.items())]
        write_atomically(artifacts / LOCK_FILE, "".join(lines).encode())

    def check(self, file: str, sha256: str) -> None:
        """Raises InvalidBundle where `file` is not locked, or is locked with another digest than `sha256`."""
        locked = self.digests.get(file)
        if locked is None:
            raise InvalidBundle(f"{file} is not in {LOCK_FILE}; `recall-server lock` vouches for all that is there")
        if locked != sha256:
            raise InvalidBundle(f"{file} has sha256 {sha256}, but {LOCK_FILE} vouches for {locked}")


def _parse(data: bytes) -> dict[str, str]:
    digests: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
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
