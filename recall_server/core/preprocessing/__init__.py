"""Invertible maps between pixel space (floats in 0..1, not clipped) and model space.

Memories are stored in model space, where training is well conditioned. Pictures, exports and mixtures of bundles need
pixel space. Every preprocessing is affine and invertible, and is stored in the bundle.
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
