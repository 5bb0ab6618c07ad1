"""Names and places of bundles are refused before anything is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.output.places import check_name, check_place, derived_name, is_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pets", "pets"),
        ("My Pictures", "my-pictures"),
        ("Fotos (2026)", "fotos-2026"),
        ("Bücher & Äpfel", "bucher-apfel"),
        ("_hidden", "hidden"),
        ("写真", "memory"),
        ("...", "memory"),
        ("a" * 200, "a" * 60),
        ("cats, dogs: all", "cats-dogs-all"),
    ],
)
def test_a_folder_of_any_name_gives_a_name_for_its_memory(text: str, name: str) -> None:
    assert derived_name(text) == name
    assert is_name(name)


@pytest.mark.parametrize("name", ["my pets", "-x", "a" * 101, "straße", "a:b"])
def test_a_name_that_no_bundle_can_have_is_refused_with_one_that_it_can(name: str) -> None:
    with pytest.raises(ValueError, match="a bundle cannot be called .* such as "):
        check_name(Path("folder") / f"{name}.safetensors")


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    check_place(tmp_path / "new" / "folder" / "x.safetensors")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="is no folder"):
        check_place(tmp_path / "file" / "x.safetensors")
    with pytest.raises(ValueError, match="--output must name a file, but folder.safetensors is a folder"):
        check_place(tmp_path / "folder.safetensors")
    check_place(tmp_path / "file")
    with pytest.raises(ValueError, match="file already exists; choose another --name, or replace it with --overwrite"):
        check_place(tmp_path / "file", "--name", overwrite=False)


def test_a_folder_without_the_right_to_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(ValueError, match="is not writable"):
        check_place(tmp_path / "x.safetensors")
