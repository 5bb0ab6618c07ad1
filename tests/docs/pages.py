"""Parses the Markdown pages: blocks to run, links to check, headings that links may point at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SET_UP, NOT_EXECUTED = "set-up", "not executed:"
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block, or a hidden set-up (language `shell`). `line` counts from 1 and is the first line of the content.

    `not_executed` is the reason that the page gives for not running it, or None.
    """

    language: str
    content: str
    line: int
    not_executed: str | None = None


@dataclass(frozen=True)
class Link:
    target: str
    line: int


def pages() -> list[Path]:
    """Return the pages of the site."""
    return sorted(DOCS.rglob("*.md"))


def executed() -> list[Path]:
    """Return the pages whose blocks are run: those of the site with blocks, README.md and artifacts/README.md."""
    return [*(page for page in pages() if blocks(page)), ROOT / "README.md", ROOT / "artifacts/README.md"]


def name_of(page: Path) -> str:
    return page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix()


def _tokens(page: Path) -> list[Token]:
    return _parsed(page.read_text(encoding="utf-8"))


@lru_cache  # several tests read every page, and each process of the suite collects them
def _parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks and hidden set-ups in the order of the page.

    A fence without a language raises ValueError on a page of the site, and is a block of `text` elsewhere.
    """
    strict = page.name != "README.md"
    found: list[Block] = []
    reason: str | None = None
    for token in _tokens(page):
        first = 0 if token.map is None else token.map[0] + 1
        if token.type == "html_block":
            comment = COMMENT.fullmatch(token.content.strip())
            text = "" if comment is None else comment.group(1).strip()
            reason = text.removeprefix(NOT_EXECUTED).strip() if text.startswith(NOT_EXECUTED) else None
            if text.startswith(SET_UP):
                found.append(Block("shell", text.removeprefix(SET_UP).strip() + "\n", first + 1))
        elif token.type == "fence":
            language = token.info.split()[0] if token.info.strip() else ""
            if not language and strict:
                raise ValueError(f"{page.name}:{first}: this block has no language; `text` is one")
            found.append(Block(language or "text", token.content, first + 1, reason))
            reason = None
        elif token.type == "code_block" and strict:
            raise ValueError(f"{page.name}:{first}: this block is indented; fence it, with a language")
        elif not token.type.endswith("_close"):
            reason = None
    return found


def links(page: Path) -> list[Link]:
    """Return every link and picture of a page."""
    found = []
    for token in _tokens(page):
        line = 0 if token.map is None else token.map[0] + 1
        for child in token.children or ():
            target = child.attrs.get("href" if child.type == "link_open" else "src")
            if child.type in ("link_open", "image") and target is not None:
                found.append(Link(str(target), line))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, spelled as the site generator and the usual forges spell them."""
    tokens = _tokens(page)
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
