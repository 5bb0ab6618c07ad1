"""The lock file pins bundles: by the lines that sha256sum writes, and never by less than all of them."""

from __future__ import annotations

import codecs
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from recall_server.core.bundle.lock import LOCK_FILE, BundleLock
from recall_server.errors import InvalidBundle
from tests.suite.needs import needs


@pytest.fixture
def folder(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifacts, tmp_path / "artifacts"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_lock_covers_exactly_the_files_of_the_folder(folder: Path) -> None:
    BundleLock.of(folder).write(folder)
    lock = BundleLock.read(folder)
    assert lock is not None
    paths = list((folder / "bundles").glob("*.safetensors"))
    assert set(lock.digests) == {path.name for path in paths}
    for path in paths:
        lock.check(path.name, digest(path))
    with pytest.raises(InvalidBundle, match=r"columns.safetensors has sha256 0000.* but bundles.lock vouches for"):
        lock.check("columns.safetensors", "0" * 64)
    with pytest.raises(InvalidBundle, match=r"stranger.safetensors is not in bundles.lock; `recall-server lock`"):
        lock.check("stranger.safetensors", "0" * 64)


@needs("sha256sum")
def test_sha256sum_reads_the_same_file(folder: Path) -> None:
    BundleLock.of(folder).write(folder)
    checked = subprocess.run(["sha256sum", "-c", LOCK_FILE], cwd=folder, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    with (folder / "bundles" / "columns.safetensors").open("ab") as file:
        file.write(b"!")
    assert subprocess.run(["sha256sum", "-c", LOCK_FILE], cwd=folder, capture_output=True, check=False).returncode != 0


def test_lines_of_sha256sum_for_binary_files_are_read(folder: Path) -> None:
    BundleLock.of(folder).write(folder)
    plain = BundleLock.read(folder)
    path = folder / "bundles.lock"
    path.write_text(path.read_text().replace("  bundles/", " *bundles/"))
    assert " *bundles/" in path.read_text() and BundleLock.read(folder) == plain


def test_a_byte_order_mark_before_the_lock_is_no_part_of_it(folder: Path) -> None:
    lock = BundleLock.of(folder)
    lock.write(folder)
    path = folder / LOCK_FILE
    for text in (path.read_bytes(), b"# ours\n" + path.read_bytes(), path.read_bytes().replace(b"\n", b"\r\n")):
        path.write_bytes(codecs.BOM_UTF8 + text)
        assert BundleLock.read(folder) == lock


def test_without_the_file_there_is_no_lock(folder: Path) -> None:
    assert BundleLock.read(folder) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe", "line 1 of bundles.lock is not"),
        (b"0" * 64 + b"  bundles/../x", "line 1"),
        (b"# ours\n\n" + b"0" * 63 + b"  bundles/x", "line 3"),
        (b"0" * 64 + b"  bundles/x\n" + b"1" * 64 + b"  bundles/x\n", "line 2 of bundles.lock names x with a second"),
        (b" " * (2**20 + 1), "more than"),
    ],
)
def test_a_damaged_lock_is_not_ignored(folder: Path, content: bytes, sentence: str) -> None:
    (folder / LOCK_FILE).write_bytes(content)
    with pytest.raises(InvalidBundle, match=sentence):
        BundleLock.read(folder)


def test_only_loadable_bundles_are_locked(folder: Path) -> None:
    (folder / "bundles" / "bad.safetensors").write_bytes(b"12345")
    with pytest.raises(InvalidBundle, match="bad.safetensors"):
        BundleLock.of(folder)
    shutil.rmtree(folder / "bundles")
    with pytest.raises(InvalidBundle, match="no bundle"):
        BundleLock.of(folder)
