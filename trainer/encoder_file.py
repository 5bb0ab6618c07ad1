"""The parameters of a query encoder back from its ONNX file, for a memory addressed by pictures to be gone on from."""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper

from recall_server.networks import AbstractNetwork, Parameters
from recall_server.networks.fused import trained_names


def encoder_parameters(model: bytes, network: AbstractNetwork) -> Parameters:
    """What `onnx_export` wrote of `network`, by the same names, float32 on the CPU.

    Biases in front of a norm, which has no use for them and the file does not hold, are zero. Raises ValueError, in one
    sentence, where the file holds another network.
    """
    constants = {each.name: each for each in onnx.load_model_from_string(model).graph.initializer}
    parameters = {name: torch.zeros(shape) for name, shape in network.shapes().items()}
    for name in trained_names(network):
        asked = list(parameters[name].shape)
        found = list(constants[name].dims) if name in constants else None
        if found != asked:
            has = f"no {name}" if found is None else f"a {name} of {found}"
            raise ValueError(
                f"the bundle's encoder has {has}, and the one asked for has {asked}; leave encoder and query_size out, "
                "or give those that it was distilled with"
            )
        parameters[name] = torch.from_numpy(numpy_helper.to_array(constants[name]).copy())
    return parameters
