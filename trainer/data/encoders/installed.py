"""Encoders that are installed: ONNX files by name, in `artifacts/encoders` here or in the repository."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from recall_server.core.bundle.layout import ENCODERS
from recall_server.core.encoders.query_encoder import QueryEncoder

SHIPPED: Final = Path(__file__).parents[3] / "artifacts" / ENCODERS  # in the repository


class NoEncoder(ValueError):
    """There is no encoder of that name."""


def encoder_file(name: str, own: Path | None = None) -> Path:
    """The file NAME.onnx in the folder `own`, in artifacts/encoders, or in the repository.

    Raises NoEncoder, with the command that adds it.
    """
    folders = (*([] if own is None else [own]), Path("artifacts") / ENCODERS, SHIPPED)
    path = next((folder / f"{name}.onnx" for folder in folders if (folder / f"{name}.onnx").is_file()), None)
    if path is None:
        here = sorted({each.stem for folder in folders for each in folder.glob("*.onnx")})
        where = "" if own is None else f" --folder {own}"
        raise NoEncoder(
            f"there is no encoder {name!r}; there are {', '.join(here) or 'none'}; "
            f"add it with `recall-trainer encoder add {name}{where}`"
        )
    return path


def installed_encoder(name: str, size: int) -> QueryEncoder:
    """The encoder for pictures of this size in pixels. Raises the errors of `encoder_file` and `QueryEncoder`."""
    path = encoder_file(name)
    return QueryEncoder(path, hashlib.sha256(path.read_bytes()).hexdigest(), image_shape=(3, size, size))
