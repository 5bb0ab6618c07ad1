"""Every file in tests/hostile_bundles is refused with the sentence that its table gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidBundle
from tests.hostile_bundles import make
from tests.hostile_bundles.draft import HostileBundle, build

HOSTILE = make.hostile_bundles()


def test_the_bundle_that_they_are_made_from_is_sound(tmp_path: Path) -> None:
    """Else each could be refused for the same reason, and the others would prove nothing."""
    (tmp_path / "good.safetensors").write_bytes(build())
    bundle = MemoryBundle.load(tmp_path / "good.safetensors")
    assert bundle.memory.items(bundle.label_queries(["bear", "deer"])).shape == (2, 3, 1, 4, 4)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_bundle_is_refused_with_its_sentence(hostile: HostileBundle) -> None:
    with pytest.raises(InvalidBundle) as refusal:
        MemoryBundle.load(make.FOLDER / hostile.file)
    assert str(refusal.value) == f"{hostile.file}: {hostile.sentence}"
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_the_committed_file_is_what_make_writes(hostile: HostileBundle) -> None:
    assert (make.FOLDER / hostile.file).read_bytes() == hostile.data
    assert len(hostile.data) <= 128 * 1024, "hostile bundles are small"


def test_no_file_is_left_over_and_no_name_is_used_twice() -> None:
    assert sorted(path.name for path in make.FOLDER.glob("*.safetensors")) == sorted(
        hostile.file for hostile in HOSTILE
    )


def test_the_table_in_the_readme_is_what_make_writes() -> None:
    assert (make.FOLDER / "README.md").read_text(encoding="utf-8") == make.readme()
