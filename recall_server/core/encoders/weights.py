"""Reads the parameters of a query encoder from its ONNX file.

Classifiers of a memory that is addressed by pictures may start from the encoder's layers, and a distillation may
continue with the whole encoder.
"""

from __future__ import annotations

import math

import onnx
import torch
from onnx import TensorProto, numpy_helper

from recall_server.core.bundle.bundle import LARGEST_MAGNITUDE
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.networks import AbstractNetwork, Parameters, build_network
from recall_server.core.networks.base import CLASSIFIER
from recall_server.core.training.fused import trainable_parameters
from recall_server.core.training.retraining import Retraining


def learned_layers(encoder: QueryEncoder, retraining: Retraining) -> Parameters | None:
    """The pretrained layers of this schedule, all but the last; None if it starts from random weights.

    Raises ValueError if the encoder is not the schedule's network.
    """
    if retraining.initial == "random":
        return None
    network = build_network(retraining.network, encoder.image_shape, encoder.query_size)
    return all_but_the_last(encoder_parameters(encoder.model, network))


def all_but_the_last(parameters: Parameters) -> Parameters:
    """The parameters without those of the last layer."""
    return {name: value for name, value in parameters.items() if not name.startswith(CLASSIFIER)}


def encoder_parameters(model: bytes, network: AbstractNetwork) -> Parameters:
    """The parameters of `network` in a model that `onnx_export` wrote, by name, float32 on the CPU.

    Biases before a norm, which the file does not contain, are zero. The file is not trusted: raises ValueError if it
    contains another network, or was not written by `onnx_export`.
    """
    try:
        constants = {each.name: each for each in onnx.load_model_from_string(model).graph.initializer}
    except Exception as error:  # the parser's exceptions have no common base class
        raise ValueError("the bundle's encoder is not an ONNX model whose layers can be read") from error
    trained, shapes = trainable_parameters(network), network.shapes()
    for name in trained:  # all of them before any memory is allocated
        _check(constants.get(name), name, list(shapes[name]))
    parameters = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in trained}
    for name in trained:
        parameters[name] = torch.from_numpy(numpy_helper.to_array(constants[name]).copy())
        if not bool((parameters[name].abs() <= LARGEST_MAGNITUDE).all()):  # False for NaN
            raise ValueError(f"the bundle's encoder has values beyond {LARGEST_MAGNITUDE:g} or NaN in its {name}")
    return parameters


def _check(constant: TensorProto | None, name: str, expected: list[int]) -> None:
    found = None if constant is None else list(constant.dims)
    if constant is None or found != expected:
        has = f"no {name}" if found is None else f"a {name} of shape {found}"
        raise ValueError(f"the bundle's encoder has {has}, but the network needs {expected}")
    # External data is never opened: the content of any file of this machine could end up in the next encoder.
    if constant.data_location != TensorProto.DEFAULT or constant.data_type != TensorProto.FLOAT:
        raise ValueError(f"the bundle's encoder does not store its {name} as float32 in the file itself")
    if len(constant.raw_data) != 4 * math.prod(expected):
        raise ValueError(f"the bundle's encoder has a {name} of shape {expected} with {len(constant.raw_data)} bytes")
