"""A lock that must be signed: what nobody trusted has signed vouches for nothing, and takes nothing away."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as elliptic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from recall_server.core.bundle.lock import LOCK_FILE, SIGNATURE_FILE, BundleLock
from recall_server.core.bundle.signatures import Signer
from recall_server.errors import InvalidBundle
from recall_server.library.library import Library
from tests.suite.needs import needs

PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def folder(artifacts: Path, tmp_path: Path) -> Path:
    """Bundles with a lock."""
    copied = Path(shutil.copytree(artifacts, tmp_path / "artifacts"))
    BundleLock.of(copied).write(copied)
    return copied


@pytest.fixture
def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def public(private: Ed25519PrivateKey, tmp_path: Path) -> Path:
    path = tmp_path / "signing.pub"
    path.write_bytes(private.public_key().public_bytes(*PEM))
    return path


def sign(folder: Path, private: Ed25519PrivateKey) -> None:
    (folder / SIGNATURE_FILE).write_bytes(private.sign((folder / LOCK_FILE).read_bytes()))


def served(folder: Path, public: Path, previous: Library | None = None) -> Library:
    return Library.load(folder, device="cpu", public_key=public, previous=previous)


def test_bundles_of_a_signed_lock_are_served(folder: Path, private: Ed25519PrivateKey, public: Path) -> None:
    sign(folder, private)
    assert served(folder, public).bundles.keys() == Library.load(folder, device="cpu").bundles.keys() != set()


def test_without_a_lock_or_a_signature_nothing_is_served_and_the_reason_is_given(folder: Path, public: Path) -> None:
    library = served(folder, public)
    assert (library.bundles, library.rejected[0].reason) == (
        {},
        "a signature is asked for, and bundles.lock.sig cannot be read: No such file or directory",
    )
    (folder / LOCK_FILE).unlink()
    assert served(folder, public).rejected[0].reason == "there is no bundles.lock, and a signed one is asked for"


@pytest.mark.parametrize("signature", [b"", b"x" * 64, b"x" * 100_000])
def test_malformed_signatures_are_refused(folder: Path, public: Path, signature: bytes) -> None:
    (folder / SIGNATURE_FILE).write_bytes(signature)
    with pytest.raises(InvalidBundle, match="bundles.lock.sig is no signature of bundles.lock by the key"):
        BundleLock.read(folder, public)


def test_a_signature_by_somebody_else_is_refused(folder: Path, public: Path) -> None:
    sign(folder, Ed25519PrivateKey.generate())
    assert served(folder, public).bundles == {}


def test_a_lock_that_was_changed_after_signing_adds_and_removes_no_bundle(
    folder: Path, private: Ed25519PrivateKey, public: Path
) -> None:
    sign(folder, private)
    before = served(folder, public)
    shutil.copy(folder / "bundles" / "columns.safetensors", folder / "bundles" / "stranger.safetensors")
    BundleLock.of(folder).write(folder)
    after = served(folder, public, previous=before)
    assert after.bundles.keys() == before.bundles.keys()
    assert {rejection.file for rejection in after.rejected} == {"stranger.safetensors"}


def test_a_file_that_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    with pytest.raises(InvalidBundle, match="the public key key.pub cannot be read: No such file"):
        Signer.read(path)
    path.write_text("ssh-ed25519 AAAA")
    with pytest.raises(InvalidBundle, match="key.pub is not a public key in PEM"):
        Signer.read(path)
    path.write_bytes(elliptic(SECP256R1()).public_key().public_bytes(*PEM))
    with pytest.raises(InvalidBundle, match="key.pub is no Ed25519 key"):
        Signer.read(path)


@needs("openssl")
def test_openssl_makes_the_keys_and_the_signature(folder: Path) -> None:
    for command in (
        "genpkey -algorithm ed25519 -out signing.pem",
        "pkey -in signing.pem -pubout -out signing.pub",
        "pkeyutl -sign -rawin -inkey signing.pem -in bundles.lock -out bundles.lock.sig",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    assert BundleLock.read(folder, folder / "signing.pub") == BundleLock.read(folder)
