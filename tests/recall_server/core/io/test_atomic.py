"""Files are written atomically."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from recall_server.core.io.atomic import write_atomically
from recall_server.errors import StorageFailed


def test_the_file_holds_the_bytes_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"some\x00bytes\n")
    assert (tmp_path / "file").read_bytes() == b"some\x00bytes\n"
    assert os.listdir(tmp_path) == ["file"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"older and longer")
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("target", ["other/file", "../elsewhere/file", "chain"])
def test_a_symbolic_link_stays_and_what_it_points_to_is_written(tmp_path: Path, target: str, there: bool) -> None:
    folder = tmp_path / "folder"
    for each in (folder / "other", tmp_path / "elsewhere"):
        each.mkdir(parents=True)
    (folder / "chain").symlink_to("other/file")
    (folder / "link").symlink_to(target)
    if there:
        (folder / "link").write_bytes(b"older")
    write_atomically(folder / "link", b"new")
    assert (folder / "link").is_symlink() and os.readlink(folder / "link") == target
    assert (folder / target).read_bytes() == b"new"
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"older")
    with target.open("rb") as reader:
        write_atomically(target, b"new")
        assert reader.read() == b"older"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"bytes")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"bytes"


def test_the_file_gets_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """`tempfile` would have made it readable by its owner alone: a server under another account could not load it."""
    write_atomically(tmp_path / "file", b"bytes")
    (tmp_path / "plain").write_bytes(b"bytes")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "plain")]
    assert modes[0] == modes[1]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"bytes")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"bytes"


def fail_with(error: BaseException) -> object:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_leaves_no_temporary_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"older")
    monkeypatch.setattr(os, step, fail_with(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StorageFailed, match=r"^file could not be written: No space left on device$"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file"]


def test_ctrl_c_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_in_the_way_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageFailed, match=r"^file could not be written: "):
        write_atomically(tmp_path / "file", b"bytes")
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_the_way_of_a_folder_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(StorageFailed, match=r"^file could not be written: "):
        write_atomically(tmp_path / "folder" / "file", b"bytes")


def test_a_file_system_that_cannot_sync_a_folder_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems answer EINVAL. The file is whole and in place by then."""
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "file", b"bytes")
    assert (tmp_path / "file").read_bytes() == b"bytes"
