"""Labels: one spelling for what looks the same, and nothing that cannot be seen."""

from __future__ import annotations

import pytest

from recall_server.core.io.labels import check_label, folded


@pytest.mark.parametrize(
    "label",
    [
        "bear", "grizzly bear", "Müller", "犬", "可愛い犬", "किताब", "می‌خواهم", "👨‍👩‍👧", "❤️", "1️⃣",
        "O'Neil & co.", "12\" disc",
    ],
)  # fmt: skip
def test_labels_of_every_script_are_accepted_as_they_are(label: str) -> None:
    assert check_label(label) == label


@pytest.mark.parametrize(
    "label",
    [
        "ca\u200bt", "\ufeffcat", "cat\u00ad", "ca\u200dt", "ca\u200ct", "cat\u2060", "cat\ufe0f", "cat\U000e0100",
        "cat\u3164", "\u2800", "\u115fcat", "big\u00a0cat", "big\u2003cat", "犬\u200d", "cat\U000e0061",
    ],
)  # fmt: skip
def test_characters_that_cannot_be_seen_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="characters that cannot be seen|white space"):
        check_label(label)


@pytest.mark.parametrize("label", ["cat\n", "c\x1bat", "c\u2028at", "\u202etac", "c\ud800at", " cat", "a:b", "a,b"])
def test_characters_that_mislead_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="must not"):
        check_label(label)


@pytest.mark.parametrize("decomposed", ["Mu\u0308ller", "e\u0301clair", "\u1112\u1161\u11ab", "A\u030angstro\u0308m"])
def test_decomposed_labels_are_composed(decomposed: str) -> None:
    assert len(check_label(decomposed)) < len(decomposed)
    assert folded(decomposed) == folded(check_label(decomposed).upper())
