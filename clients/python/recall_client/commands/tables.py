"""The server's answers as tables and sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from recall_client.messages.explanation import Explanation
from recall_client.messages.models import Bundle, ClassifierState, Prediction

_MOST_LABELS = 6
_SHORT_ID = 8


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; the text of its cells is not markup."""
    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def bundles(loaded: Sequence[Bundle]) -> Table:
    """Return a row per memory."""
    return table(
        ("memory", "queries", "labels", "size", "accuracy", "dataset"),
        (
            (each.name, each.queries, str(len(each.labels)), size(each.file_bytes), _accuracy(each), each.dataset)
            for each in loaded
        ),
    )


def classifiers(states: Sequence[ClassifierState], names: Mapping[str, Sequence[str]]) -> Table:
    """Return a row per classifier."""
    return table(
        ("name", "id", "status", "labels", "estimated accuracy", "created"),
        (
            (
                ", ".join(names.get(each.id, ())),
                each.id[:_SHORT_ID],
                each.status,
                listed(each.labels),
                "" if each.quality is None else percent(each.quality.accuracy),
                f"{each.created_at.astimezone():%Y-%m-%d %H:%M}",
            )
            for each in states
        ),
    )


def predictions(pictures: Sequence[str], said: Sequence[Prediction]) -> Table:
    """Return a row per picture: the most probable label and the next ones, and how familiar the picture is."""
    known = any(each.familiarity is not None for each in said)
    rows = []
    for picture, each in zip(pictures, said, strict=True):
        ranked = sorted(each.probabilities.items(), key=lambda item: item[1], reverse=True)
        rest = [f"{label} {percent(share)}" for label, share in ranked if label != each.label]
        label = f"none of these ({each.label}?)" if each.none_of_these else each.label
        familiar = [] if each.familiarity is None else [percent(each.familiarity)]
        rows.append((picture, label, percent(each.probabilities[each.label]), *familiar, ", ".join(rest[:2])))
    return table(("picture", "label", "probability", *(["familiarity"] if known else []), "others"), rows)


def explanation(said: Explanation) -> Table:
    """Return a row per recalled item that spoke for or against the class."""
    sides = [("for", each) for each in said.supporting] + [("against", each) for each in said.opposing]
    return table(
        (f"{said.label}: {percent(said.probability)}", "item", "memory", "log-odds", "probability without"),
        (
            (side, f"{each.label} {each.row}", each.bundle, f"{each.influence:+.2f}", percent(each.probability_without))
            for side, each in sides
        ),
    )


def outcome(state: ClassifierState, name: str | None) -> str:
    """Return a paragraph about a classifier."""
    called = f"{name} ({state.id})" if name else state.id
    words = [f"{called}: {state.status}, tells apart {listed(state.labels)}"]
    if state.seconds is not None:
        memories = [each.name for each in state.bundles or (state.bundle,)]
        seconds = f"{state.seconds:.1f}" if state.seconds >= 0.05 else "less than 0.1"
        words.append(f"trained in {seconds} s from {listed(memories)}")
    if state.quality is not None:
        words.append(f"estimated accuracy {percent(state.quality.accuracy)}. {state.quality.explanation}".rstrip())
    words += state.notes
    return "\n".join(words)


def listed(labels: Sequence[str]) -> str:
    """Return all labels, or the first ones and the number of the rest."""
    shown = ", ".join(labels[:_MOST_LABELS])
    return shown if len(labels) <= _MOST_LABELS else f"{shown} and {len(labels) - _MOST_LABELS} more"


def percent(share: float) -> str:
    """0.9731 -> 97.3 %"""
    return f"{100 * share:.1f} %"


def size(number: int) -> str:
    """12345678 -> 12.3 MB"""
    return (
        f"{number} B" if number < 1000 else f"{number / 1000:.0f} kB" if number < 10**6 else f"{number / 10**6:.1f} MB"
    )


def _accuracy(bundle: Bundle) -> str:
    """Return the accuracy that the server states for the bundle, with the number of classes and its protocol."""
    stated = bundle.stated_accuracy
    return "" if stated is None else f"{percent(stated.mean)} ({stated.classes}-way, {stated.protocol})"
