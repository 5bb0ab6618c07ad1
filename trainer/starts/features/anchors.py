"""Anchors: classes of one memory that several heads are trained beside, so that the heads can be compared.

A head says how its classes differ, and nothing of what they have in common. So two heads of different classes cannot
be put side by side. A column that was trained beside anchors says how its class differs from them, wherever it was
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from trainer.starts.features.drawn_features import drawn_features
from trainer.starts.features.trained_features import Labelled

SETTING: Final = "anchors"  # of a manifest: the digest of the memory
DRAWN: Final = 20  # features of each anchor; 50 are as good on validation pictures, and the centres of a class worse


class Anchors(NamedTuple):
    """Features with labels among so many `classes`, and the digest of the memory that they were drawn from."""

    data: Labelled
    classes: int
    sha256: str

    @classmethod
    def read(cls, path: Path, encoder: QueryEncoder) -> Self:
        """Features as the encoder gives them, drawn from what a memory of this encoder says of its classes.

        Raises NotFound, InvalidBundle, and ValueError for a memory of another kind or another encoder.
        """
        bundle = MemoryBundle.load(path)
        reference, memory = bundle.manifest.feature_encoder, bundle.memory
        if reference is None or not isinstance(memory, DescribedClasses):
            raise ValueError(f"{path.name} cannot be anchors: it is no memory of features that describes its classes")
        if (reference.sha256, bundle.manifest.image.shape) != (encoder.sha256, encoder.image_shape):
            raise ValueError(f"{path.name} cannot be anchors: it was made with another encoder or size of pictures")
        labels = torch.arange(len(bundle.labels)).repeat_interleave(DRAWN)
        drawn = drawn_features(memory, labels, torch.Generator().manual_seed(0))
        features = bundle.preprocessing.to_pixels(drawn[:, :, None, None]).flatten(1)
        return cls(Labelled(features, labels), len(bundle.labels), str(bundle.sha256))

    def within(self, space: Standardise) -> Self:
        """The anchors in the space of heads.

        Raises ValueError if its features are centred: in those of length one, all heads have one origin.
        """
        if bool((space.mean != 0).any()):
            raise ValueError("anchors need an encoder whose features have length one, as `encoder add` writes it")
        features = space.to_model(self.data.features[:, :, None, None]).flatten(1)
        return self._replace(data=Labelled(features, self.data.labels))
