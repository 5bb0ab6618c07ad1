"""Builds Markdown around untrusted text, which stays plain text: no markup, no HTML, no links, one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from recall_server.core.io.labels import misleads

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKUP = re.compile(r"[\\`*_\[\]|~$]")
BARE_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)  # some renderers turn these into links


def escape(text: str) -> str:
    """Untrusted text, escaped for a line of Markdown or a cell of a table."""
    one_line = " ".join(text.split())
    visible = "".join(character for character in one_line if not misleads(character))
    entities = "".join(ENTITIES.get(character, character) for character in visible)
    return BARE_LINK.sub(r"\\\g<0>", MARKUP.sub(r"\\\g<0>", entities))


def escape_all(texts: Iterable[str]) -> str:
    """The escaped texts, separated by commas."""
    return ", ".join(map(escape, texts))


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells must be Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A two-column table without a heading; names and values must be Markdown already."""
    return table(("", ""), rows)


def bullets(lines: Iterable[str]) -> str:
    """A bulleted list; the lines must be Markdown already and must not begin with untrusted text."""
    return "\n".join(f"* {line}" for line in lines)


def document(title: str, *sections: tuple[str, Sequence[str]]) -> str:
    """A page of sections, each a heading and its paragraphs.

    A section without paragraphs is left out; one with an empty heading has paragraphs only.
    """
    blocks = [f"# {title}"]
    for heading, paragraphs in sections:
        if paragraphs:
            blocks += [f"## {heading}"] if heading else []
            blocks += paragraphs
    return "\n\n".join(blocks) + "\n"


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as a percentage: 0.8382 -> "83.8 %"."""
    return f"{100 * fraction:.{digits}f} %"
