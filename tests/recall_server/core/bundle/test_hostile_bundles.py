"""Every bundle in tests/hostile_bundles is refused with the sentence that the table in its README gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.errors import InvalidBundle
from tests.hostile_bundles import make
from tests.hostile_bundles.draft import HostileBundle, build

HOSTILE = make.hostile_bundles()


def test_the_bundle_behind_the_hostile_ones_is_valid(tmp_path: Path) -> None:
    """If it were not, one fault could be the reason for every refusal, and the tests below would prove nothing."""
    (tmp_path / "good.safetensors").write_bytes(build())
    bundle = MemoryBundle.load(tmp_path / "good.safetensors")
    assert bundle.memory.items(bundle.label_queries(["bear", "deer"])).shape == (2, 3, 1, 4, 4)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_each_hostile_bundle_is_up_to_date_and_refused_with_its_sentence(hostile: HostileBundle) -> None:
    file = make.FOLDER / hostile.file
    assert file.read_bytes() == hostile.data
    assert len(hostile.data) <= 128 * 1024, "hostile bundles are small"
    with pytest.raises(InvalidBundle) as refusal:
        MemoryBundle.load(file)
    assert str(refusal.value) == f"{hostile.file}: {hostile.sentence}"
    assert str(refusal.value).isprintable()


def test_the_folder_holds_exactly_the_listed_hostile_bundles() -> None:
    assert sorted(path.name for path in make.FOLDER.glob("*.safetensors")) == sorted(
        hostile.file for hostile in HOSTILE
    )


def test_the_table_in_the_readme_is_what_make_writes() -> None:
    assert (make.FOLDER / "README.md").read_text(encoding="utf-8") == make.readme()
