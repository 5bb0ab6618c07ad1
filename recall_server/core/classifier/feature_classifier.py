"""A classifier of pictures in the feature space of a pre-trained encoder: the encoder and a freshly trained head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, final

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.onnx_graph import batch, checked_bytes
from recall_server.core.classifier.onnx_padding import write_paddings
from recall_server.core.encoders.query_encoder import QueryEncoder

ENCODER_SHA256: Final = "encoder_sha256"  # keys of a head's `extra`: the digest of its encoder, and the picture size
PICTURE_SIZE: Final = "picture_size"
HEAD: Final = "head/"


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

    def predict(self, pixels: Tensor) -> list[str]:
        """Pictures [N, 3, S, S] in pixel space -> the most probable label of each."""
        return [self.labels[index] for index in self.predict_probabilities(pixels).argmax(dim=1).tolist()]

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> None:
        """Write the head, as `FreshClassifier.save`; the encoder has its own file."""
        self.head.save(path, extra)

    def export_onnx(self) -> bytes:
        """One ONNX model, with the encoder inside: "images" [N, 3, S, S] in pixel space -> "probabilities" [N, k].

        All weights are in single precision and all paddings are numbers, which every runtime supports. The metadata is
        that of the head.
        """
        encoder = onnx.load_model_from_string(self.encoder.model)
        _in_single_precision(encoder.graph)
        head = compose.add_prefix(onnx.load_model_from_string(self.head.export_onnx()), HEAD)
        graph = encoder.graph
        size = numpy_helper.from_array(np.array([-1, self.encoder.query_size, 1, 1], dtype=np.int64), f"{HEAD}shape")
        graph.initializer.extend([size, *head.graph.initializer])
        graph.node.append(helper.make_node("Reshape", ["queries", f"{HEAD}shape"], [f"{HEAD}images"], name=f"{HEAD}in"))
        graph.node.extend(head.graph.node)
        graph.node.append(
            helper.make_node("Identity", [f"{HEAD}probabilities"], ["probabilities"], name="probabilities")
        )
        del graph.input[:], graph.output[:], graph.value_info[:]
        graph.input.append(batch("images", *self.image_shape))
        graph.output.append(batch("probabilities", len(self.labels)))
        del encoder.metadata_props[:]
        encoder.metadata_props.extend(head.metadata_props)
        write_paddings(encoder)
        return checked_bytes(encoder)


def _in_single_precision(graph: onnx.GraphProto) -> None:
    """Replace half-precision constants, each followed by a Cast, by single-precision constants."""
    halves = {constant.name: constant for constant in graph.initializer if constant.data_type == TensorProto.FLOAT16}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            constant = halves[node.input[0]]
            values = numpy_helper.to_array(constant).astype(np.float32)
            constant.CopyFrom(numpy_helper.from_array(values, node.output[0]))
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
