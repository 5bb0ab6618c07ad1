"""A classifier of pictures in the feature space of a pre-trained encoder: the encoder and a freshly trained head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, final

import torch
from torch import Tensor

from recall_server.core.classifier.feature_onnx import export_with_encoder
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.encoders.query_encoder import QueryEncoder

ENCODER_SHA256: Final = "encoder_sha256"  # keys of a head's `extra`: the digest of its encoder, and the picture size
PICTURE_SIZE: Final = "picture_size"


@final
class FeatureClassifier:
    """Predicts like a `FreshClassifier`, from pictures of the encoder's size. `head` takes features [N, D, 1, 1].

    Raises ValueError if the head does not match the encoder's features.
    """

    def __init__(self, head: FreshClassifier, encoder: QueryEncoder) -> None:
        if head.image_shape != (encoder.query_size, 1, 1):
            raise ValueError(
                f"the head takes {head.image_shape[0]} features, but the encoder gives {encoder.query_size}"
            )
        self.head, self.encoder = head, encoder

    @property
    def labels(self) -> tuple[str, ...]:
        return self.head.labels

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.encoder.image_shape

    @property
    def extra(self) -> dict[str, str]:
        return self.head.extra

    def predict_probabilities(self, pixels: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] in pixel space -> probabilities [N, k]. Raises ValueError for another shape."""
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(f"pictures must be [N, {', '.join(map(str, self.image_shape))}], not {list(pixels.shape)}")
        return self.classify(torch.from_numpy(self.encoder.encode(pixels.numpy())))

    def classify(self, features: Tensor) -> Tensor:
        """Features [N, D] of the encoder -> probabilities [N, k]."""
        return self.head.predict_probabilities(features[:, :, None, None])

    def familiarity(self, features: Tensor) -> Tensor | None:
        """Features [N, D] of the encoder -> how familiar each picture is [N], 0 to 1; None if that is not known."""
        return None if self.head.familiarity is None else self.head.familiarity.of(features)

    def predict(self, pixels: Tensor) -> list[str]:
        """Pictures [N, 3, S, S] in pixel space -> the most probable label of each."""
        return [self.labels[index] for index in self.predict_probabilities(pixels).argmax(dim=1).tolist()]

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> None:
        """Write the head, as `FreshClassifier.save`; the encoder has its own file."""
        self.head.save(path, extra)

    def export_onnx(self) -> bytes:
        """One ONNX model, with the encoder inside: "images" [N, 3, S, S] in pixel space -> "probabilities" [N, k].

        A head that knows how familiar pictures are gives "familiarity" [N, 1], too.
        """
        return export_with_encoder(self.encoder, self.head)
