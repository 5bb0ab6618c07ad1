"""The site builds in strict mode, has every page, and fetches nothing from other hosts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS, ROOT, pages

pytestmark = pytest.mark.process

CONFIGURATION = "zensical.toml"
SITE = tomllib.loads((ROOT / CONFIGURATION).read_text())["project"]
FETCHING = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


class Fetched(HTMLParser):
    """Collects the addresses that a browser fetches when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        fetches_link = tag == "link" and "canonical" not in (given.get("rel") or "").split()
        address = given.get("href") if fetches_link else given.get(FETCHING.get(tag, ""))
        if address:
            self.addresses.append(address)


def build(source: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(source / CONFIGURATION)]
    return subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the generator reads, so that it writes nothing into the checkout."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(DOCS, folder / "docs")
    (folder / "artifacts").mkdir()
    for name in (CONFIGURATION, "CONTRIBUTING.md", "SECURITY.md", "artifacts/README.md", "artifacts/RESULTS.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def site(source: Path) -> Path:
    built = build(source)
    assert built.returncode == 0, built.stdout + built.stderr
    return source / SITE["site_dir"]


def test_pages_load_nothing_from_other_origins(site: Path) -> None:
    elsewhere = []
    for page in site.rglob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        elsewhere += [f"{page.relative_to(site)}: {each}" for each in fetched.addresses if urlsplit(each).netloc]
    for sheet in site.rglob("*.css"):
        elsewhere += re.findall(r"url\([\"']?(https?:[^)]*)\)|@import\s+[\"'](https?:[^\"']*)", sheet.read_text())
    assert elsewhere == []


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    for page in pages():
        name = page.relative_to(DOCS).with_suffix("")
        folder = name.parent if name.name == "index" else name
        assert (site / folder / "index.html").is_file(), page
    assert sorted(_listed(SITE["nav"])) == sorted(page.relative_to(DOCS).as_posix() for page in pages())


def test_included_files_exist(site: Path) -> None:
    assert "What this page asks for beyond safetensors" in (site / "bundle-format/index.html").read_text()
    assert not [page for page in site.rglob("*.html") if re.search(r"--8(<|&lt;|&larr;|←)", page.read_text())]


def test_a_broken_link_fails_the_build(source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(source, broken, ignore=shutil.ignore_patterns("build", ".cache"))
    with (broken / "docs/index.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    built = build(broken)
    assert built.returncode != 0
    assert "page does not exist" in built.stdout + built.stderr


def _listed(entries: object) -> list[str]:
    """Return the pages of a navigation with any number of levels."""
    if isinstance(entries, str):
        return [entries]
    inner = entries.values() if isinstance(entries, dict) else entries
    assert not isinstance(inner, bytes)
    return [page for entry in inner for page in _listed(entry)]  # type: ignore[attr-defined]
