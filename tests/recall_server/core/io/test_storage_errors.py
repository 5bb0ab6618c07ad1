"""Which errors of the operating system pass, and which do not."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from recall_server.core.io import atomic
from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.storage_errors import handles_are_scarce, storage_failure
from recall_server.errors import StorageBusy, StorageFailed
from tests.suite.needs import needs_proc


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG])
def test_a_disk_that_is_full_or_read_only_stays_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_write_durably", failing(number))
    with pytest.raises(StorageFailed, match=f"a file could not be written: {os.strerror(number)}") as caught:
        write_atomically(tmp_path / "a file", b"")
    assert type(caught.value) is StorageFailed


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_lack_of_handles_or_memory_passes(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_write_durably", failing(number))
    with pytest.raises(StorageBusy, match="a file could not be written: "):
        write_atomically(tmp_path / "a file", b"")


def test_the_reason_names_no_path() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/place")
    assert str(storage_failure("it could not be written", error)) == "it could not be written: No space left on device"
    assert str(storage_failure("it could not be written", OSError("odd"))) == "it could not be written: OSError"


@needs_proc
def test_scarce_handles_are_noticed(few_handles: int) -> None:
    assert not handles_are_scarce()
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(few_handles - 4)]
    try:
        assert handles_are_scarce()
    finally:
        for handle in held:
            os.close(handle)
    assert not handles_are_scarce()


@pytest.fixture
def few_handles() -> Iterator[int]:
    """Let this process open only so many more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    yield 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def failing(number: int) -> object:
    """A function that fails with this error, as a system call does."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
