"""The layout of an artifacts folder: bundles in `bundles/`, their encoders in `encoders/` beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

BUNDLES: Final = "bundles"
ENCODERS: Final = "encoders"


def encoder_folder(bundle: Path) -> Path:
    """The folder of a bundle's encoder: `encoders` beside the folder `bundles`, or inside any other folder."""
    folder = bundle.absolute().parent
    return (folder.parent if folder.name == BUNDLES else folder) / ENCODERS
