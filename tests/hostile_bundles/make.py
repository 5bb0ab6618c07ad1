"""Writes the hostile bundles beside this file, and the table in README.md: `python -m tests.hostile_bundles.make`."""

from __future__ import annotations

from pathlib import Path

from tests.hostile_bundles.containers import containers
from tests.hostile_bundles.contents import contents
from tests.hostile_bundles.draft import HostileBundle
from tests.hostile_bundles.kinds import kinds
from tests.hostile_bundles.manifests import manifests
from tests.hostile_bundles.storages import storages

FOLDER = Path(__file__).parent
TABLE = ("| file | what is wrong | `InvalidBundle` says |", "| --- | --- | --- |")


def hostile_bundles() -> list[HostileBundle]:
    """Return all hostile bundles in the order of the table in the README."""
    return [*containers(), *contents(), *kinds(), *storages(), *manifests()]


def readme() -> str:
    """Return README.md with a new table; the text above the table is kept."""
    introduction, _, _ = (FOLDER / "README.md").read_text(encoding="utf-8").partition(TABLE[0])
    rows = [f"| `{bundle.file}` | {bundle.abuse} | {bundle.sentence} |" for bundle in hostile_bundles()]
    return introduction + "\n".join([*TABLE, *rows]) + "\n"


def main() -> None:
    bundles = hostile_bundles()
    for stale in FOLDER.glob("*.safetensors"):
        stale.unlink()
    for bundle in bundles:
        (FOLDER / bundle.file).write_bytes(bundle.data)
    (FOLDER / "README.md").write_text(readme(), encoding="utf-8")
    print(f"wrote README.md and {len(bundles)} bundles")


if __name__ == "__main__":
    main()
