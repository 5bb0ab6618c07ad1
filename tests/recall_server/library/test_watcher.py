"""Bundles change on the disk while a server runs: it follows, and never serves a half-written or a bad one."""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.hostile_files import hungry_encoder
from recall_server.core.bundle.lock import BundleLock
from recall_server.core.encoders import query_encoder
from recall_server.core.encoders.trial import try_encoder
from recall_server.core.io.killable import WorkLimits
from recall_server.library import Library, WatchedLibrary, watcher
from tests.recall_server.serving_examples import image_bundle, label_bundle, write_artifacts
from tests.suite.waiting import assert_ends_soon


def put(folder: Path, name: str, *labels: str, file: str | None = None) -> Path:
    path = folder / "bundles" / f"{file or name}.safetensors"
    label_bundle(name, labels or ("a", "b", "c")).save(path)
    return path


def watched(folder: Path, seconds: float = 0.01) -> WatchedLibrary:
    return WatchedLibrary(lambda previous: Library.load(folder, device="cpu", previous=previous), folder, seconds)


def labels(library: Library, name: str) -> tuple[str, ...]:
    return library.get(name).bundle.labels


def test_bundles_are_added_replaced_and_removed_without_a_restart(tmp_path: Path) -> None:
    first = put(tmp_path, "first")
    library = watched(tmp_path)
    before = library.current
    assert not library.check(), "nothing has changed"
    assert library.current is before
    put(tmp_path, "second")
    assert library.check()
    assert list(library.current.bundles) == ["first", "second"]
    put(tmp_path, "first", "d", "e", "f")
    assert library.check()
    assert labels(library.current, "first") == ("d", "e", "f")
    first.unlink()
    assert library.check()
    assert list(library.current.bundles) == ["second"]
    assert labels(before, "first") == ("a", "b", "c"), "whoever holds the old library keeps it"


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    put(tmp_path, "first")
    library = watched(tmp_path)
    loaded = library.current.get("first")
    put(tmp_path, "second")
    assert library.check()
    assert library.current.get("first") is loaded


def test_a_file_that_becomes_invalid_is_reported_and_the_old_bundle_stays(tmp_path: Path) -> None:
    path = put(tmp_path, "first")
    whole = path.read_bytes()
    library = watched(tmp_path)
    served = library.current.get("first")
    path.write_bytes(whole[: len(whole) // 2])
    assert library.check()
    assert library.current.get("first") is served
    (rejection,) = library.current.rejected
    assert rejection.file == "first.safetensors"
    assert "first.safetensors: " in rejection.reason
    put(tmp_path, "other")
    assert library.check(), "and it goes on being served while other files change"
    assert library.current.get("first") is served
    put(tmp_path, "first", "d", "e", "f")
    assert library.check()
    assert labels(library.current, "first") == ("d", "e", "f")
    assert library.current.rejected == ()


def test_removing_an_invalid_file_removes_its_old_bundle(tmp_path: Path) -> None:
    path = put(tmp_path, "first")
    library = watched(tmp_path)
    path.write_bytes(b"bad")
    library.check()
    path.unlink()
    assert library.check()
    assert library.current.bundles == {}
    assert library.current.rejected == ()


def test_a_second_bundle_of_a_name_is_served_after_the_first_is_removed(tmp_path: Path) -> None:
    first = put(tmp_path, "twin", "a", "b", "c", file="1")
    put(tmp_path, "twin", "d", "e", "f", file="2")
    library = watched(tmp_path)
    assert [rejection.file for rejection in library.current.rejected] == ["2.safetensors"]
    first.unlink()
    assert library.check()
    assert labels(library.current, "twin") == ("d", "e", "f")
    assert library.current.rejected == ()


def test_an_encoder_added_after_its_bundle_is_found(tmp_path: Path) -> None:
    write_artifacts(tmp_path)
    (encoder,) = (tmp_path / "encoders").iterdir()
    data = encoder.read_bytes()
    encoder.unlink()
    library = watched(tmp_path)
    assert "columns-images" not in library.current.bundles
    encoder.write_bytes(data)
    assert library.check()
    assert library.current.get("columns-images").encoder is not None


def test_files_not_in_the_lock_are_not_served_and_replace_nothing(tmp_path: Path) -> None:
    put(tmp_path, "first")
    BundleLock.of(tmp_path).write(tmp_path)
    library = watched(tmp_path)
    served = library.current.get("first")
    put(tmp_path, "first", "d", "e", "f")
    put(tmp_path, "stranger")
    assert library.check()
    assert library.current.get("first") is served
    assert list(library.current.bundles) == ["first"]
    assert [rejection.file for rejection in library.current.rejected] == ["first.safetensors", "stranger.safetensors"]
    BundleLock.of(tmp_path).write(tmp_path)
    assert library.check(), "the lock is looked at as well"
    assert labels(library.current, "first") == ("d", "e", "f")
    assert library.current.rejected == ()


def test_a_damaged_lock_adds_and_removes_no_bundle(tmp_path: Path) -> None:
    put(tmp_path, "first")
    library = watched(tmp_path)
    (tmp_path / "bundles.lock").write_text("nonsense\n")
    put(tmp_path, "second")
    assert library.check()
    assert list(library.current.bundles) == ["first"]
    (rejection,) = library.current.rejected
    assert "bundles.lock" in rejection.reason
    assert Library.load(tmp_path, device="cpu").bundles == {}, "a server that starts with it serves nothing"


def test_a_failing_load_is_logged_once_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "first")

    def load(previous: Library | None) -> Library:
        if previous is not None:
            raise OSError("the disk is gone")
        return Library.load(tmp_path, device="cpu")

    library = WatchedLibrary(load, tmp_path)
    before = library.current
    put(tmp_path, "second")
    with caplog.at_level(logging.ERROR):
        assert not library.check()
        assert not library.check()
    assert library.current is before
    assert len([record for record in caplog.records if "could not be reloaded" in record.message]) == 1


def test_a_missing_folder_is_an_empty_library(tmp_path: Path) -> None:
    library = watched(tmp_path / "nothing")
    assert library.current.bundles == {}
    put(tmp_path / "nothing", "first")
    assert library.check()
    assert list(library.current.bundles) == ["first"]


def test_the_watcher_reloads_in_a_thread_until_stopped(tmp_path: Path) -> None:
    library = watched(tmp_path)
    library.stop()
    library.start()
    library.start()
    try:
        put(tmp_path, "first")
        deadline = time.monotonic() + 10
        while not library.current.bundles and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(library.current.bundles) == ["first"]
    finally:
        library.stop()
    library.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "watched-library"]


def test_stopping_does_not_wait_for_a_load_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "SECONDS_TO_STOP", 0.1)
    loading, release = threading.Event(), threading.Event()

    def load(previous: Library | None) -> Library:
        if previous is not None:
            loading.set()
            release.wait(60)
        return Library.load(tmp_path, device="cpu")

    library = WatchedLibrary(load, tmp_path, seconds=0.01)
    library.start()
    try:
        put(tmp_path, "first")
        assert loading.wait(60)
        assert_ends_soon(library.stop)
    finally:
        release.set()


@pytest.mark.process
def test_an_encoder_that_takes_too_long_is_refused_and_reloading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifacts(tmp_path)
    library = watched(tmp_path)
    limits = WorkLimits(processor_seconds=1.0, seconds=120.0, memory=2**29)
    monkeypatch.setattr(query_encoder, "try_encoder", partial(try_encoder, limits=limits))
    encoder = hungry_encoder(2**24, 5000)
    (tmp_path / "encoders" / "slow.onnx").write_bytes(encoder)
    image_bundle("slow", encoder, file="slow.onnx").save(tmp_path / "bundles" / "slow.safetensors")
    assert library.check()
    (rejection,) = library.current.rejected
    assert "slow.onnx takes too much time or memory" in rejection.reason
    put(tmp_path, "next")
    assert library.check()
    assert "next" in library.current.bundles


def test_every_answer_comes_from_a_complete_bundle_while_its_file_is_replaced(tmp_path: Path) -> None:
    """Atomic replacement beside a copy that is written slowly and in place: the worst that a folder can see."""
    put(tmp_path, "first", "v0", "b", "c")
    slow = put(tmp_path, "slow")
    whole = slow.read_bytes()
    library = watched(tmp_path, seconds=0.001)
    library.start()
    versions: list[int] = []
    try:
        for number in range(1, 40):
            put(tmp_path, "first", f"v{number}", "b", "c")
            with slow.open("r+b") as file:
                file.truncate(number)
                os.fsync(file.fileno())
            current = library.current
            versions.append(int(labels(current, "first")[0][1:]))
            assert labels(current, "slow") == ("a", "b", "c")
        slow.write_bytes(whole)
    finally:
        library.stop()
    library.check()
    assert versions == sorted(versions), "never an older version after a newer one"
    assert labels(library.current, "first")[0] == "v39"
    assert library.current.rejected == ()
