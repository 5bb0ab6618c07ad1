"""Every link of the documentation leads somewhere. External addresses are checked by form only, without a network."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, blocks, links, name_of, pages

# Pages of the repository itself. Pages that the site includes must not use relative links: they are elsewhere there.
OTHERS = ["README.md", "CHANGELOG.md", "artifacts/README.md", "clients/python/README.md"]
INCLUDED = ["artifacts/README.md", "artifacts/RESULTS.md", "CONTRIBUTING.md", "SECURITY.md"]


def fault(target: str, page: Path) -> str | None:
    """Return what is wrong with a link on a page, or None."""
    address = urlsplit(target)
    if address.scheme or address.netloc:
        if address.scheme != "https" or "." not in address.netloc or " " in target:
            return "is no https address"
        return None
    to = page if not address.path else (page.parent / unquote(address.path)).resolve()
    if not to.exists():
        return "does not exist"
    if page.is_relative_to(DOCS) and not to.is_relative_to(DOCS):
        return "leads out of the site"
    if address.fragment and address.fragment not in anchors(to):
        return f"has no heading #{address.fragment}"
    return None


@pytest.mark.parametrize("page", [*pages(), *(ROOT / name for name in dict.fromkeys(OTHERS + INCLUDED))], ids=name_of)
def test_every_link_of_a_page_has_a_target(page: Path) -> None:
    faults = [(link, fault(link.target, page)) for link in links(page)]
    assert [f"{name_of(page)}:{link.line}: {link.target} {what}" for link, what in faults if what] == []


@pytest.mark.parametrize("name", INCLUDED)
def test_a_page_that_is_shown_in_two_places_has_no_relative_links(name: str) -> None:
    relative = [link.target for link in links(ROOT / name) if not urlsplit(link.target).scheme]
    assert relative == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, with *marks*\n")
    assert fault("#a-heading-with-marks", page) is None
    assert fault("page.md#a-heading-with-marks", page) is None
    assert fault("#another", page) == "has no heading #another"
    assert fault("other.md", page) == "does not exist"
    assert fault("http://example.org/", page) == "is no https address"
    assert fault("https://nowhere", page) == "is no https address"
    assert fault("../README.md", DOCS / "index.md") == "leads out of the site"


def test_every_file_of_the_tree_in_the_readme_is_in_its_folder() -> None:
    """In the folder of its entry, or in one of the folders inside it that the entry names."""
    [tree] = [block.content for block in blocks(ROOT / "README.md") if block.content.startswith("recall_server/")]
    parents: dict[int, Path] = {-2: ROOT}
    folders, missing = [ROOT], []
    for line in tree.splitlines():
        if head := re.match(r"( *)([\w/]+(?:, \w+/)*|[\w.]+\.py)  ", line):
            depth = len(head[1])
            folders = [parents[depth - 2] / name for name in head[2].split(", ")]
            parents[depth] = folders[0]
            missing += [name_of(folder) for folder in folders if not folder.exists()]
        for name in re.findall(r"(\w+)/(?!\w)", line):
            folders += [folder / name for folder in folders if (folder / name).is_dir()]
        for name in re.findall(r"[\w/]+\.(?:py|cpp|md|jsonl?)\b", line):
            if not any(folder.name == name or (folder / name).exists() for folder in folders):
                missing.append(f"{name_of(folders[0])}: {name}")
    assert missing == []
    assert len(parents) >= 4
