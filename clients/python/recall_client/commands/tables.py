"""What people see: tables and sentences of what the server answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from recall_client.messages.models import Bundle, ClassifierState, Prediction

_MOST_LABELS = 6
_SHORT_ID = 8


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Cells are shown as they are, whatever brackets or colons their text holds."""
    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def bundles(loaded: Sequence[Bundle]) -> Table:
    """A row for each memory."""
    return table(
        ("memory", "asked by", "labels", "size", "accuracy", "dataset"),
        (
            (each.name, each.queries, str(len(each.labels)), size(each.file_bytes), _accuracy(each), each.dataset)
            for each in loaded
        ),
    )


def classifiers(states: Sequence[ClassifierState], names: Mapping[str, Sequence[str]]) -> Table:
    """A row for each classifier."""
    return table(
        ("name", "id", "status", "labels", "estimate", "made"),
        (
            (
                ", ".join(names.get(each.id, ())),
                each.id[:_SHORT_ID],
                each.status,
                some(each.labels),
                "" if each.quality is None else percent(each.quality.accuracy),
                f"{each.created_at.astimezone():%Y-%m-%d %H:%M}",
            )
            for each in states
        ),
    )


def predictions(pictures: Sequence[str], said: Sequence[Prediction]) -> Table:
    """A row for each picture: the likeliest label and the next one."""
    rows = []
    for picture, each in zip(pictures, said, strict=True):
        ranked = sorted(each.probabilities.items(), key=lambda item: item[1], reverse=True)
        rest = [f"{label} {percent(share)}" for label, share in ranked if label != each.label]
        rows.append((picture, each.label, percent(each.probabilities[each.label]), ", ".join(rest[:2])))
    return table(("picture", "label", "probability", "else"), rows)


def outcome(state: ClassifierState, name: str | None) -> str:
    """One paragraph on a classifier."""
    called = f"{name} ({state.id})" if name else state.id
    words = [f"{called}: {state.status}, tells apart {some(state.labels)}"]
    if state.seconds is not None:
        memories = [each.name for each in state.bundles or (state.bundle,)]
        words.append(f"trained in {state.seconds:.1f} s from {some(memories)}")
    if state.quality is not None:
        words.append(f"about {percent(state.quality.accuracy)} right. {state.quality.explanation}".rstrip())
    words += state.notes
    return "\n".join(words)


def some(labels: Sequence[str]) -> str:
    """All labels, or the first and how many more."""
    shown = ", ".join(labels[:_MOST_LABELS])
    return shown if len(labels) <= _MOST_LABELS else f"{shown} and {len(labels) - _MOST_LABELS} more"


def percent(share: float) -> str:
    """0.9731 -> 97.3 %"""
    return f"{100 * share:.1f} %"


def size(number: int) -> str:
    """Bytes in the unit that people would use."""
    return (
        f"{number} B" if number < 1000 else f"{number / 1000:.0f} kB" if number < 10**6 else f"{number / 10**6:.1f} MB"
    )


def _accuracy(bundle: Bundle) -> str:
    best = max(bundle.accuracy, key=lambda each: each.mean, default=None)
    return "" if best is None else f"{percent(best.mean)} ({best.protocol})"
