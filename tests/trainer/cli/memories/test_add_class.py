"""The command `add-class`: what it replaces, and what it refuses before it reads a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from tests.recall_server.bundle_examples import example_bundle
from tests.trainer.cli.test_command_line import run
from tests.trainer.data_examples import picture_folder


def test_add_class_replaces_another_bundle_only_on_request(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = picture_folder(tmp_path / "more", "lowest", each=3) / "lowest"
    path, other = tmp_path / "bars.safetensors", tmp_path / "other.safetensors"
    for each in (path, other):
        example_bundle().save(each)
    before = other.read_bytes()
    command = ["add-class", str(path), str(folder), "--output"]
    said = refused(*command, str(other))
    assert said == (
        "error: other.safetensors already exists; choose another --output, or replace it with --overwrite\n"
    )
    assert other.read_bytes() == before
    run(*command, str(other), "--overwrite")
    assert MemoryBundle.load(other).labels[-1] == "lowest"
    assert "already exists" in refused("add-class", str(path), str(folder))
    assert "Its accuracy is unknown." in run("add-class", str(path), str(folder), "--overwrite")
    assert MemoryBundle.load(path).labels[-1] == "lowest", "without --output the class is added to BUNDLE itself"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--name", "cat, tabby"], "must not contain ':' or ','"),
        (["--name", " cat"], "must not begin or end with white space"),
        (["--name", "class 0"], "knows 'class 0' already"),
        (["--name", "a", "--name", "b"], "1 folders need 1 times --name"),
        (["--output", "my pets.safetensors"], "a bundle cannot be called 'my pets'"),
        (["--output", "pets.pt"], "must end in .safetensors"),
    ],
)
def test_names_are_refused_before_a_picture_is_read(
    tmp_path: Path, refused: Callable[..., str], arguments: list[str], sentence: str
) -> None:
    example_bundle().save(tmp_path / "bars.safetensors")
    said = refused(
        "add-class", str(tmp_path / "bars.safetensors"), str(tmp_path / "no-folder"), "--overwrite", *arguments
    )
    assert sentence in said, "the folder is not there, which would be the next complaint"
