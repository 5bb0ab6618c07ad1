"""Anchors: classes of one memory that several heads are trained beside, so that the heads can be compared.

A head says how its classes differ, and nothing of what they have in common. So two heads of different classes cannot
be put side by side. A column that was trained beside anchors says how its class differs from them, wherever it was
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from trainer.starts.features.trained_features import Labelled

SETTING: Final = "anchors"  # of a manifest: the digest of the memory
DRAWN: Final = 20  # features of each anchor; 50 are as good on validation pictures, and the centres of a class worse


class Anchors(NamedTuple):
    """Features in a space of heads, with labels among so many `classes`, and the digest of their memory."""

    data: Labelled
    classes: int
    sha256: str

    @classmethod
    def read(cls, path: Path, encoder: QueryEncoder, space: Standardise) -> Self:
        """Features of the classes of a memory of this encoder, drawn from what it says of them.

        Raises NotFound, InvalidBundle, and ValueError for a memory of another kind or another encoder, and for a space
        whose features are centred: in those of length one, all heads have one origin.
        """
        bundle = MemoryBundle.load(path)
        reference, memory = bundle.manifest.feature_encoder, bundle.memory
        if reference is None or not isinstance(memory, DescribedClasses):
            raise ValueError(f"{path.name} cannot be anchors: it is no memory of features that describes its classes")
        if (reference.sha256, bundle.manifest.image.shape) != (encoder.sha256, encoder.image_shape):
            raise ValueError(f"{path.name} cannot be anchors: it was made with another encoder or size of pictures")
        if bool((space.mean != 0).any()):
            raise ValueError("anchors need an encoder whose features have length one, as `encoder add` writes it")
        labels = torch.arange(len(bundle.labels)).repeat_interleave(DRAWN)
        drawn = drawn_features(memory, labels, torch.Generator().manual_seed(0))
        features = space.to_model(bundle.preprocessing.to_pixels(drawn[:, :, None, None])).flatten(1)
        return cls(Labelled(features, labels), len(bundle.labels), str(bundle.sha256))


def drawn_features(memory: DescribedClasses, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Features [n, D] of the classes `labels` [n] of a memory, in its space.

    They are normal around the centres of a class, with the deviations that are left around them.
    """
    centre = torch.randint(len(memory.centres), (len(labels),), generator=generator)
    left = (memory.deviations.square() - memory.centres.var(dim=0, correction=0)).clamp(min=0).sqrt()  # [C, K]
    noise = torch.randn(len(labels), len(memory.bases), generator=generator)
    return (memory.centres[centre, labels] + left[labels] * noise) @ memory.bases
