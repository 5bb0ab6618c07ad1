"""matplotlib, where it is installed: an empty figure, and its bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["png", "svg", "pdf"]
KINDS: tuple[Kind, ...] = ("png", "svg", "pdf")
UNDATED: dict[Kind, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def empty(width: float, height: float) -> Figure:
    """A figure of so many inches. ValueError with what to install, where matplotlib is not."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  (the extra `trainer`)
    except ModuleNotFoundError as error:
        raise ValueError("drawing needs matplotlib; install it, or memory-recall with its extra `trainer`") from error
    return Figure(figsize=(width, height), layout="constrained")


def to_bytes(figure: Figure, kind: Kind) -> bytes:
    """The file of a figure: the same bytes for the same figure, for no date is in it."""
    from matplotlib import rc_context  # noqa: PLC0415

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "memory-recall"}):
        figure.savefig(stream, format=kind, dpi=150, metadata=UNDATED[kind])
    return stream.getvalue()
