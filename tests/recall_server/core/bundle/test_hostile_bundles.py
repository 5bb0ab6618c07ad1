"""Every bundle in tests/hostile_bundles is refused with the sentence that the table in its README gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidBundle
from tests.hostile_bundles import make
from tests.hostile_bundles.draft import HostileBundle, build

HOSTILE = make.hostile_bundles()


def test_the_bundle_that_they_are_made_from_is_sound(tmp_path: Path) -> None:
    """If it were not, one fault could be the reason for every refusal, and the tests below would prove nothing."""
    (tmp_path / "good.safetensors").write_bytes(build())
    bundle = MemoryBundle.load(tmp_path / "good.safetensors")
    assert bundle.memory.items(bundle.label_queries(["bear", "deer"])).shape == (2, 3, 1, 4, 4)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_bundle_is_the_file_that_make_writes_and_is_refused_with_its_sentence(hostile: HostileBundle) -> None:
    file = make.FOLDER / hostile.file
    assert file.read_bytes() == hostile.data
    assert len(hostile.data) <= 128 * 1024, "hostile bundles are small"
    with pytest.raises(InvalidBundle) as refusal:
        MemoryBundle.load(file)
    assert str(refusal.value) == f"{hostile.file}: {hostile.sentence}"
    assert str(refusal.value).isprintable()


def test_no_file_is_left_over_and_no_name_is_used_twice() -> None:
    assert sorted(path.name for path in make.FOLDER.glob("*.safetensors")) == sorted(
        hostile.file for hostile in HOSTILE
    )


def test_the_table_in_the_readme_is_what_make_writes() -> None:
    assert (make.FOLDER / "README.md").read_text(encoding="utf-8") == make.readme()
