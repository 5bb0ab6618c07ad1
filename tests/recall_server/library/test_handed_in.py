"""Bundles that are handed in: verified as those in the folder, written whole or not at all, and served at once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.lock import BundleLock
from recall_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, StorageFailed
from recall_server.library import HandedIn, Library, LoadOptions, WatchedLibrary
from tests.recall_server.feature_examples import FILE, write_feature_artifacts
from tests.recall_server.serving_examples import COLUMNS, label_bundle

HOSTILE = sorted((Path(__file__).parents[2] / "hostile_bundles").glob("*.safetensors"))
OWN = {column: column for column in COLUMNS}


def allowed(sha256: str | None) -> None:
    """A condition that never refuses."""


def folder_with_first(path: Path) -> Path:
    label_bundle("first", ("a", "b", "c")).save(path / "bundles" / "first.safetensors")
    return path


def watched(folder: Path) -> WatchedLibrary:
    """A library that looks at the folder only when it is told to."""
    return WatchedLibrary(lambda previous: Library.load(folder, device="cpu", previous=previous), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_with_first(tmp_path)


@pytest.fixture
def library(folder: Path) -> WatchedLibrary:
    return watched(folder)


@pytest.fixture
def handed_in(library: WatchedLibrary, folder: Path) -> HandedIn:
    return HandedIn(library, folder, LoadOptions("cpu"), min_free_bytes=0)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle, which no test changes."""
    return folder_with_first(tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def refusing(untouched: Path) -> HandedIn:
    return HandedIn(watched(untouched), untouched, LoadOptions("cpu"), min_free_bytes=0)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "bundles").iterdir())


def test_a_bundle_is_served_at_once_and_survives_a_restart(
    handed_in: HandedIn, library: WatchedLibrary, folder: Path
) -> None:
    data = label_bundle("second", ("d", "e", "f")).to_bytes()
    loaded, new = handed_in.put("second", data, allowed)
    assert (loaded.sha256, new) == (hashlib.sha256(data).hexdigest(), True)
    assert library.current.get("second") is loaded
    assert (folder / "bundles" / "second.safetensors").read_bytes() == data
    assert Library.load(folder, device="cpu").get("second").sha256 == loaded.sha256


def test_a_bundle_replaces_the_file_it_was_served_from(
    handed_in: HandedIn, library: WatchedLibrary, folder: Path
) -> None:
    (folder / "bundles" / "first.safetensors").rename(folder / "bundles" / "other.safetensors")
    assert library.check()
    loaded, new = handed_in.put("first", label_bundle("first", ("d", "e", "f")).to_bytes(), allowed)
    assert not new
    assert library.current.get("first").bundle.labels == loaded.bundle.labels == ("d", "e", "f")
    assert files(folder) == ["other.safetensors"]
    handed_in.delete("first", allowed)  # and what was replaced does not come back
    assert not library.current.bundles


def test_a_file_that_serves_a_bundle_of_another_name_is_not_overwritten(
    handed_in: HandedIn, library: WatchedLibrary, folder: Path
) -> None:
    (folder / "bundles" / "first.safetensors").rename(folder / "bundles" / "second.safetensors")
    with pytest.raises(Conflict, match=r"the bundle 'first' is served from second.safetensors; choose another name"):
        handed_in.put("second", label_bundle("second", ("d", "e", "f")).to_bytes(), allowed)
    assert list(library.current.bundles) == ["first"]


def test_the_condition_decides_and_is_told_what_is_served(handed_in: HandedIn, library: WatchedLibrary) -> None:
    told: list[str | None] = []

    def refuse(sha256: str | None) -> None:
        told.append(sha256)
        raise Conflict("not now")

    served = library.current.get("first")
    for name in ("first", "second"):
        with pytest.raises(Conflict):
            handed_in.put(name, label_bundle(name, ("d", "e", "f")).to_bytes(), refuse)
    with pytest.raises(Conflict):
        handed_in.delete("first", refuse)
    assert told == [served.sha256, None, served.sha256]
    assert library.current.bundles == {"first": served}


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda path: path.stem)
def test_a_hostile_bundle_is_refused_and_leaves_nothing(refusing: HandedIn, untouched: Path, hostile: Path) -> None:
    data = hostile.read_bytes()
    found = re.search(rb'\\"name\\": ?\\"([A-Za-z0-9._-]+)\\"', data)
    name = "first" if found is None else found[1].decode()
    before = (untouched / "bundles" / "first.safetensors").read_bytes()
    with pytest.raises(InvalidRequest) as caught:
        refusing.put(name, data, allowed)
    assert str(untouched) not in str(caught.value)
    assert files(untouched) == ["first.safetensors"]
    assert (untouched / "bundles" / "first.safetensors").read_bytes() == before


def test_a_bundle_of_another_name_is_refused(handed_in: HandedIn) -> None:
    with pytest.raises(InvalidRequest, match="named 'second', so it belongs to /bundles/second"):
        handed_in.put("third", label_bundle("second", ("d", "e", "f")).to_bytes(), allowed)


def test_a_bundle_needs_an_encoder_that_the_server_has(tmp_path: Path, handed_in: HandedIn, folder: Path) -> None:
    data = (write_feature_artifacts(tmp_path / "client", ("north", OWN)) / "bundles/north.safetensors").read_bytes()
    with pytest.raises(InvalidRequest, match=f"the query encoder {FILE} is missing from the folder encoders"):
        handed_in.put("north", data, allowed)
    write_feature_artifacts(folder, size=2)
    with pytest.raises(InvalidRequest, match="has sha256 .*, but the bundle needs"):
        handed_in.put("north", data, allowed)
    write_feature_artifacts(folder)
    loaded, _ = handed_in.put("north", data, allowed)
    assert loaded.feature_encoder is not None


def test_only_what_the_lock_file_vouches_for_is_taken(handed_in: HandedIn, folder: Path) -> None:
    data = label_bundle("second", ("d", "e", "f")).to_bytes()
    BundleLock.of(folder).write(folder)
    with pytest.raises(Forbidden, match=r"second.safetensors is not in bundles.lock"):
        handed_in.put("second", data, allowed)
    locked = BundleLock.read(folder)
    assert locked is not None
    BundleLock({**locked.digests, "second.safetensors": hashlib.sha256(data).hexdigest()}).write(folder)
    assert handed_in.put("second", data, allowed)[1]


def test_a_link_is_left_alone(handed_in: HandedIn, library: WatchedLibrary, folder: Path, tmp_path: Path) -> None:
    path = folder / "bundles" / "first.safetensors"
    kept = tmp_path / "kept.safetensors"
    path.rename(kept)
    path.symlink_to(kept)
    before = kept.read_bytes()
    with pytest.raises(Conflict, match="is a link to a bundle that is kept elsewhere"):
        handed_in.put("first", label_bundle("first", ("d", "e", "f")).to_bytes(), allowed)
    assert kept.read_bytes() == before


def test_a_full_disk_and_a_read_only_folder_are_said(
    library: WatchedLibrary, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = label_bundle("second", ("d", "e", "f")).to_bytes()
    full = HandedIn(library, folder, LoadOptions("cpu"), min_free_bytes=2**60)
    with pytest.raises(StorageFailed, match="the disk of this server is full"):
        full.put("second", data, allowed)
    monkeypatch.setattr("recall_server.library.handed_in.os.access", lambda path, mode: False)  # root may write anyway
    with pytest.raises(StorageFailed, match="the folder of bundles is read-only for this server"):
        HandedIn(library, folder, LoadOptions("cpu"), min_free_bytes=0).put("second", data, allowed)
    assert files(folder) == ["first.safetensors"]


def test_a_removed_bundle_is_not_served_any_more(handed_in: HandedIn, library: WatchedLibrary, folder: Path) -> None:
    handed_in.put("second", label_bundle("second", ("d", "e", "f")).to_bytes(), allowed)
    handed_in.delete("second", allowed)
    assert list(library.current.bundles) == ["first"]
    assert files(folder) == ["first.safetensors"]
    with pytest.raises(NotFound):
        handed_in.delete("second", allowed)


def test_a_file_that_was_refused_is_replaced(handed_in: HandedIn, library: WatchedLibrary, folder: Path) -> None:
    (folder / "bundles" / "second.safetensors").write_bytes(b"damaged")
    assert library.check()
    _, new = handed_in.put("second", label_bundle("second", ("d", "e", "f")).to_bytes(), allowed)
    assert new
    assert library.current.rejected == ()
    assert MemoryBundle.load(folder / "bundles" / "second.safetensors").labels == ("d", "e", "f")
