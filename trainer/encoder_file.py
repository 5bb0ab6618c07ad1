"""The parameters of a query encoder back from its ONNX file, for a memory addressed by pictures to be gone on from."""

from __future__ import annotations

import math

import onnx
import torch
from onnx import TensorProto, numpy_helper

from recall_server.networks import AbstractNetwork, Parameters
from recall_server.networks.fused import trained_names


def encoder_parameters(model: bytes, network: AbstractNetwork) -> Parameters:
    """What `onnx_export` wrote of `network`, by the same names, float32 on the CPU.

    Biases in front of a norm, which has no use for them and the file does not hold, are zero. The file may come from
    anywhere. Raises ValueError, in one sentence, where it holds another network, or was not written by `onnx_export`.
    """
    try:
        constants = {each.name: each for each in onnx.load_model_from_string(model).graph.initializer}
    except Exception as error:  # the parser's own classes, without a common root
        raise ValueError("the bundle's encoder is no ONNX model that can be gone on from") from error
    trained, shapes = trained_names(network), network.shapes()
    for name in trained:  # all of them before any memory is taken
        _check(constants.get(name), name, list(shapes[name]))
    parameters = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in trained}
    return parameters | {name: torch.from_numpy(numpy_helper.to_array(constants[name]).copy()) for name in trained}


def _check(constant: TensorProto | None, name: str, asked: list[int]) -> None:
    found = None if constant is None else list(constant.dims)
    if constant is None or found != asked:
        has = f"no {name}" if found is None else f"a {name} of {found}"
        raise ValueError(
            f"the bundle's encoder has {has}, and the one asked for has {asked}; --set encoder=... and "
            "--set query_size=... must be those that it was distilled with"
        )
    # What lies outside, by whatever path, is not opened: it would end up in the next encoder.
    if constant.data_location != TensorProto.DEFAULT or constant.data_type != TensorProto.FLOAT:
        raise ValueError(f"the bundle's encoder does not hold its {name} as float32 in the file itself")
    if len(constant.raw_data) != 4 * math.prod(asked):
        raise ValueError(f"the bundle's encoder has a {name} of {asked} with {len(constant.raw_data)} bytes")
