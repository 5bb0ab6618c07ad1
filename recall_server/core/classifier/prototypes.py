"""A nearest-class-mean classifier in an encoder's feature space, which needs no training.

Each class is the mean m of its encoded pictures, and a picture with the features q belongs to the class with the
nearest mean. With one Gaussian per class and a variance that all classes share, the probabilities are the softmax of
-|q - m|^2 / (2 variance). The term |q|^2 is the same for all classes, so the classifier is the encoder followed by one
linear layer, stored as a single ONNX model.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Self, final

import onnx
import onnx.compose
import torch
from onnx import helper, numpy_helper
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recall_server.core.classifier.onnx_graph import batch, checked_bytes
from recall_server.core.encoders.onnx_session import cpu_session, run_session
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.io.tensor_file import FileLimits, canonical_json, pack, parse_json, unpack
from recall_server.errors import InvalidRequest

METADATA_KEY: Final = "prototype_classifier"
NETWORK: Final = "nearest class mean"  # how records call it
LIMITS = FileLimits(file_bytes=2**27, numbers=2**27)


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    image_shape: tuple[int, int, int]


@final
class PrototypeClassifier:
    """An ONNX model: images [N, C, H, W] in pixel space -> probabilities [N, k] of `labels`. Safe to share by threads.

    `model` is the ONNX file. The onnxruntime session is created by the first prediction and kept.
    """

    def __init__(self, labels: tuple[str, ...], image_shape: tuple[int, int, int], model: bytes) -> None:
        self.labels, self.image_shape, self._model = labels, image_shape, model
        self._opening = threading.Lock()
        self._session: Any = None

    @classmethod
    def of(cls, features: Mapping[str, Tensor], encoder: QueryEncoder) -> Self:
        """The classifier of encoded pictures [n, d] by class name. InvalidRequest if two classes have the same mean."""
        means = torch.stack([each.double().mean(dim=0) for each in features.values()])  # [k, d]
        _check_distinct(means, list(features))
        weights, biases = _linear(means, _variance(features, means))
        labels = tuple(features)
        return cls(labels, encoder.image_shape, _with_layer(encoder.model, weights, biases, labels))

    def predict_probabilities(self, pixels: Tensor) -> Tensor:
        """Pictures [N, C, H, W] in pixel space -> probabilities [N, k]."""
        return torch.from_numpy(run_session(self._opened(), "probabilities", pixels.numpy()))

    def to_bytes(self) -> bytes:
        """A safetensors file that holds the ONNX model. Equal classifiers give equal bytes."""
        header = canonical_json({"labels": self.labels, "image_shape": self.image_shape})
        model = torch.frombuffer(bytearray(self._model), dtype=torch.uint8)
        return pack({"model": model}, key=METADATA_KEY, text=header)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`; raises ValueError."""
        tensors, text = unpack(data, key=METADATA_KEY, limits=LIMITS, dtypes=frozenset({"U8"}))
        header = _Header.model_validate(parse_json(text))
        return cls(header.labels, header.image_shape, tensors["model"].numpy().tobytes())

    def export_onnx(self) -> bytes:
        """The ONNX model, with `labels` in its metadata like that of `FreshClassifier.export_onnx`."""
        return self._model

    def _opened(self) -> Any:
        with self._opening:
            if self._session is None:
                self._session = cpu_session(self._model)
            return self._session


def _check_distinct(means: Tensor, names: list[str]) -> None:
    for position, mean in enumerate(means):
        same = (means[:position] == mean).all(dim=1).nonzero()
        if len(same):
            raise InvalidRequest(
                f"the classes {names[int(same[0])]!r} and {names[position]!r} look the same to the encoder; "
                "do they hold the same pictures?",
                parameter=names[position],
            )


def _variance(features: Mapping[str, Tensor], means: Tensor) -> Tensor:
    """The variance of a feature within a class, or between the means [k, d] if every class has one picture."""
    squares = [(each.double() - mean).square().sum() for each, mean in zip(features.values(), means, strict=True)]
    within, freedom = torch.stack(squares).sum(), sum(map(len, features.values())) - len(means)
    between = (means - means.mean(dim=0)).square().mean()
    return torch.where(within > 0, within / max(1, freedom) / means.shape[1], between)


def _linear(means: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [k, d] and biases [k] with logits q W^T + b = -|q - m|^2 / (2 variance) + |q|^2 / (2 variance)."""
    return (means / variance).float(), (-means.square().sum(dim=1) / (2 * variance)).float()


def _with_layer(encoder: bytes, weights: Tensor, biases: Tensor, labels: tuple[str, ...]) -> bytes:
    """The encoder's model, followed by a linear layer and a softmax."""
    # The prefix keeps the encoder's names apart from those added here.
    model = onnx.compose.add_prefix(onnx.load_from_string(encoder), "encoder.", rename_inputs=False)
    graph = model.graph
    graph.initializer.extend(
        [
            numpy_helper.from_array(weights.numpy(), "prototypes.weights"),
            numpy_helper.from_array(biases.numpy(), "prototypes.biases"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node(
                "Gemm", ["encoder.queries", "prototypes.weights", "prototypes.biases"], ["logits"], transB=1
            ),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.append(batch("probabilities", len(labels)))
    helper.set_model_props(model, {"labels": canonical_json(labels)})
    return checked_bytes(model)
