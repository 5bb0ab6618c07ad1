"""C++ is compiled once, for the instructions asked for; of what is cached, only sound files of this user are loaded."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.process_tree import is_running
from recall_server.core.networks.kernels import compiled as module
from recall_server.core.networks.kernels.compiled import compiled
from tests.suite.needs import NO_COMPILER
from tests.suite.waiting import eventually

SOURCE = """
extern "C" int answer() {
#if defined(__AVX512F__)
    return 512;
#elif defined(__AVX2__)
    return 256;
#else
    return 128;
#endif
}
"""
needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX") or "g++") is None, reason=NO_COMPILER)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source file, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text(SOURCE)
    return path


def load(source: Path) -> ctypes.CDLL | None:
    """What a new process would load."""
    library: ctypes.CDLL | None = compiled.__wrapped__(source)
    return library


def answers(source: Path) -> int:
    library = load(source)
    assert library is not None
    return int(library.answer())


def cached(source: Path) -> list[Path]:
    return sorted((source.parent / "cache" / "recall-kernels").glob("*"))


@needs_compiler
def test_a_library_is_compiled_once(source: Path) -> None:
    answer = answers(source)
    (library,) = cached(source)
    made = library.stat()
    assert answers(source) == answer
    assert library.stat() == made


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other instructions")
def test_kernels_are_compiled_for_the_instruction_set_of_torch(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, (capability, answer) in enumerate((("default", 128), ("avx2", 256), ("avx512", 512)), start=1):
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        assert answers(source) == answer
        assert len(cached(source)) == count, "each is kept beside the others"


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "replaced", "writable by others", "a link"])
def test_a_library_that_is_damaged_or_writable_by_others_is_recompiled(
    source: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answers(source)
    (library,) = cached(source)
    sound = library.read_bytes()
    library.unlink()  # it is loaded, and must not change
    if damage == "a link":
        library.symlink_to(source)
    else:
        library.write_bytes({"truncated": sound[:4000], "replaced": b"not this"}.get(damage, sound))
        library.chmod(0o666 if damage == "writable by others" else 0o600)
    assert answers(source) == answer
    assert "it is compiled anew" in caplog.text
    assert [path.is_symlink() for path in cached(source)] == [False]
    assert cached(source)[0].stat().st_mode & 0o777 == 0o600
    caplog.clear()
    assert answers(source) == answer
    assert not caplog.text


@needs_compiler
@pytest.mark.parametrize("trouble", ["writable by others", "of another user", "a file"])
def test_a_cache_that_cannot_be_trusted_is_left_alone(
    source: Path, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = source.parent / "cache" / "recall-kernels"
    if trouble == "a file":
        folder.parent.write_text("in the way")
    else:
        folder.mkdir(parents=True, mode=0o700)
    if trouble == "writable by others":
        folder.chmod(0o777)
    if trouble == "of another user":
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert answers(source) in (128, 256, 512)
    assert "each process compiles its own" in caplog.text
    assert not cached(source)


@pytest.mark.parametrize(
    ("compiler", "reason"), [("no-such-compiler", "no C++ compiler found"), ("false", "failed")], ids=str
)
def test_without_a_working_compiler_the_reason_is_logged(
    source: Path, compiler: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", compiler)
    assert load(source) is None
    assert reason in caplog.text
    assert "torch's own operations" in caplog.text


def test_a_compiler_that_hangs_is_killed_with_all_that_it_started(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/child\nwait\n")
    hangs.chmod(0o700)
    monkeypatch.setenv("CXX", str(hangs))
    monkeypatch.setattr(module, "TIME_LIMIT", 2.0)
    began = time.monotonic()
    assert load(source) is None
    assert time.monotonic() - began < 30
    assert "took longer than 2 seconds" in caplog.text
    child = int((tmp_path / "child").read_text())
    eventually(lambda: not is_running(child), "the kernel has ended the compiler's child")
