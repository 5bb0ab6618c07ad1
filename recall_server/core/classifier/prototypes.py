"""The nearest class mean in an encoder's feature space: a classifier that is there at once, without any training.

Each class is the mean m of its encoded pictures, and a picture q belongs to the nearest. Taken as a Gaussian around
each mean with one variance for all, which the pictures give, that is a softmax of -|q - m|^2 / (2 variance), in which
|q|^2 is the same for all classes. So the whole is the encoder and one linear layer behind it, as one ONNX model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final, Self, final

import numpy as np
import onnx
import onnx.compose
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from recall_server.core.encoders.query_encoder import CPU, QueryEncoder
from recall_server.core.io.tensor_file import FileLimits, canonical_json, pack, parse_json, unpack
from recall_server.errors import InvalidRequest

METADATA_KEY: Final = "prototype_classifier"
BATCH = 64
LIMITS = FileLimits(file_bytes=2**27, numbers=2**27)


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    image_shape: tuple[int, int, int]


@final
class PrototypeClassifier:
    """An ONNX model, images [N, C, H, W] in pixel space -> probabilities [N, k], and what it is for."""

    def __init__(self, labels: tuple[str, ...], image_shape: tuple[int, int, int], model: bytes) -> None:
        self.labels, self.image_shape, self._model = labels, image_shape, model

    @classmethod
    def of(cls, shown: Mapping[str, Tensor], encoder: QueryEncoder) -> Self:
        """Of the encoded pictures [n, d] of each class, by name. InvalidRequest where classes have the same mean."""
        means = torch.stack([each.double().mean(dim=0) for each in shown.values()])  # [k, d]
        _check_apart(means, list(shown))
        weights, biases = _linear(means, _variance(shown, means))
        labels = tuple(shown)
        return cls(labels, encoder.image_shape, _with_layer(encoder.model, weights, biases, labels))

    def predict_probabilities(self, pixels: Tensor) -> Tensor:
        """Pictures [N, C, H, W] in pixel space -> probabilities [N, k]."""
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = runtime.InferenceSession(self._model, sess_options=options, providers=[CPU])
        parts = [session.run(["probabilities"], {"images": each.numpy()})[0] for each in torch.split(pixels, BATCH)]
        return torch.from_numpy(np.concatenate(parts))

    def to_bytes(self) -> bytes:
        """One safetensors file with the ONNX model in it; the same bytes for the same classifier."""
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
        """The model, with `labels` in its metadata as those of `FreshClassifier.export_onnx`."""
        return self._model


def _check_apart(means: Tensor, names: list[str]) -> None:
    for position, mean in enumerate(means):
        same = (means[:position] == mean).all(dim=1).nonzero()
        if len(same):
            raise InvalidRequest(
                f"the classes {names[int(same[0])]!r} and {names[position]!r} look the same to the encoder; "
                "do they hold the same pictures?",
                parameter=names[position],
            )


def _variance(shown: Mapping[str, Tensor], means: Tensor) -> Tensor:
    """Of each number of a query within a class; from the means alone where every class has one picture."""
    away = [(each.double() - mean).square().sum() for each, mean in zip(shown.values(), means, strict=True)]
    within, spare = torch.stack(away).sum(), sum(map(len, shown.values())) - len(means)
    between = (means - means.mean(dim=0)).square().mean()
    return torch.where(within > 0, within / max(1, spare) / means.shape[1], between)


def _linear(means: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [k, d] and biases [k] with logits q W^T + b = -|q - m|^2 / (2 variance) + |q|^2 / (2 variance)."""
    return (means / variance).float(), (-means.square().sum(dim=1) / (2 * variance)).float()


def _with_layer(encoder: bytes, weights: Tensor, biases: Tensor, labels: tuple[str, ...]) -> bytes:
    """The encoder's model with a linear layer and a softmax behind its queries."""
    # Under names of its own, whatever those in the encoder are.
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
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(labels)]))
    helper.set_model_props(model, {"labels": canonical_json(labels)})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
