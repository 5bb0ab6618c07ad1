"""Pixel space (floats, 0 to 1, not clipped) to model space and back.

Memories live in model space, where training is well conditioned; pictures and other people's tools live in pixel
space. Every preprocessing is affine and invertible, and is stored in the bundle, so that what was distilled in one
space can be shown, exported and mixed with other bundles in the other. Classes are abstract or final.
"""

from __future__ import annotations

from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.preprocessing.projected import Projected, unprojected
from recall_server.core.preprocessing.spectral import Spectral
from recall_server.core.preprocessing.standardise import Standardise
from recall_server.core.preprocessing.zca import ZCA

PREPROCESSINGS: dict[str, type[AbstractPreprocessing]] = {
    kind.kind: kind for kind in (Standardise, ZCA, Projected, Spectral)
}

__all__ = ["PREPROCESSINGS", "AbstractPreprocessing", "Projected", "Spectral", "Standardise", "ZCA", "unprojected"]
