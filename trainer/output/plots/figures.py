"""Creates matplotlib figures and encodes them reproducibly."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["png", "svg", "pdf"]
KINDS: tuple[Kind, ...] = ("png", "svg", "pdf")
UNDATED: dict[Kind, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def empty(width: float, height: float) -> Figure:
    """An empty figure of this size in inches. Raises ValueError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (the extra `trainer`)
    except ModuleNotFoundError as error:
        raise ValueError("plots need matplotlib; install it, or memory-recall with its extra `trainer`") from error
    return Figure(figsize=(width, height), layout="constrained")


def to_bytes(figure: Figure, kind: Kind) -> bytes:
    """The figure as a file without a date, so that the same figure gives the same bytes."""
    from matplotlib import rc_context  # noqa: PLC0415

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "memory-recall"}):
        figure.savefig(stream, format=kind, dpi=150, metadata=UNDATED[kind])
    return stream.getvalue()
