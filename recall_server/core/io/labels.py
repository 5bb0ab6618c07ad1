"""Which texts can name a class: one spelling for what looks the same, and nothing that cannot be seen."""

from __future__ import annotations

import unicodedata
from typing import Final

DIRECTION_MARKS: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode categories
# Characters of other categories than Cf that show nothing: fillers, the blank Braille pattern, a joiner of graphemes.
BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0")
# These show nothing themselves, but change the characters beside them in some scripts and in emoji.
JOINERS: Final = frozenset("\u200c\u200d")
KEYS: Final = frozenset("0123456789#*")  # a variation selector makes emoji of them


def composed(text: str) -> str:
    """The text in composed Unicode (NFC); macOS decomposes the names of folders."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """The text in composed Unicode and without the difference of upper and lower case."""
    return composed(composed(text).casefold())


def misleads(character: str) -> bool:
    """Whether it is a control character, or a mark that changes the writing direction of the rest of the line."""
    return unicodedata.category(character) in CONTROLS or unicodedata.bidirectional(character) in DIRECTION_MARKS


def check_label(label: str) -> str:
    """Return the label in composed Unicode. Labels are typed by people, split at commas, and shown in pages and logs.

    Raises ValueError for white space at either end, for white space other than the space, for ':' and ',', and for
    characters that cannot be seen.
    """
    if label != label.strip():
        raise ValueError(f"the label {label!r} must not begin or end with white space")
    if ":" in label or "," in label:
        raise ValueError(f"the label {label!r} must not contain ':' or ',', which separate labels in a request")
    if any(map(misleads, label)):
        raise ValueError(f"the label {label!r} must not contain control characters")
    for position, character in enumerate(label):
        if _unseen(label[position - 1 : position], character, label[position + 1 : position + 2]):
            raise ValueError(f"the label {label!r} must not contain characters that cannot be seen: {character!a}")
    return composed(label)


def _unseen(before: str, character: str, after: str) -> bool:
    """Whether the character, between these two, shows nothing or passes for a space."""
    if character in JOINERS:
        return before.isascii() or after.isascii()
    if _is_variation_selector(character):
        return before.isascii() and before not in KEYS
    category = unicodedata.category(character)
    return category == "Cf" or character in BLANKS or (category == "Zs" and character != " ")


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
