"""Markdown of our own around text of strangers, which must stay text: no markup, no HTML, no link, one line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from recall_server.core.bundle.manifest import DIRECTION_MARKS

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKUP = re.compile(r"[\\`*_\[\]|~$]")
BARE_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)  # which some renderers make a link of by themselves


def escape(text: str) -> str:
    """Text that reads the same inside a line of Markdown, or in a cell of a table, whatever it is made of."""
    one_line = " ".join(text.split())
    seen = "".join(character for character in one_line if not _misleads(character))
    entities = "".join(ENTITIES.get(character, character) for character in seen)
    return BARE_LINK.sub(r"\\\g<0>", MARKUP.sub(r"\\\g<0>", entities))


def _misleads(character: str) -> bool:
    """Controls, and marks that turn the direction of writing: the rest of the line would be read another way."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in DIRECTION_MARKS
    )


def escape_all(texts: Iterable[str]) -> str:
    """A list in words, separated by commas."""
    return ", ".join(map(escape, texts))


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values that are Markdown already."""
    return table(("", ""), rows)


def bullets(lines: Iterable[str]) -> str:
    """A list of lines that are Markdown already, and do not begin with text of strangers."""
    return "\n".join(f"* {line}" for line in lines)


def document(title: str, *sections: tuple[str, Sequence[str]]) -> str:
    """A page: paragraphs under headings; a section without paragraphs is left out, a heading "" opens the page."""
    blocks = [f"# {title}"]
    for heading, paragraphs in sections:
        if paragraphs:
            blocks += [f"## {heading}"] if heading else []
            blocks += paragraphs
    return "\n\n".join(blocks) + "\n"


def percent(fraction: float, digits: int = 1) -> str:
    """0.8382 -> 83.8 %"""
    return f"{100 * fraction:.{digits}f} %"
