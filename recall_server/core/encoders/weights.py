"""The parameters of a query encoder back from its ONNX file: its learned layers are worth more than one use.

Classifiers of a memory that pictures address may begin with them, and a distillation may go on with all of it.
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
    """What fresh networks of this schedule begin with, all layers but the last; None where they begin at random.

    Raises ValueError, in one sentence, where the encoder is not the schedule's network.
    """
    if retraining.initial == "random":
        return None
    network = build_network(retraining.network, encoder.image_shape, encoder.query_size)
    return all_but_the_last(encoder_parameters(encoder.model, network))


def all_but_the_last(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if not name.startswith(CLASSIFIER)}


def encoder_parameters(model: bytes, network: AbstractNetwork) -> Parameters:
    """What `onnx_export` wrote of `network`, by the same names, float32 on the CPU.

    Biases in front of a norm, which has no use for them and the file does not hold, are zero. The file may come from
    anywhere. Raises ValueError, in one sentence, where it holds another network, or was not written by `onnx_export`.
    """
    try:
        constants = {each.name: each for each in onnx.load_model_from_string(model).graph.initializer}
    except Exception as error:  # the parser's own classes, without a common root
        raise ValueError("the bundle's encoder is no ONNX model whose layers can be read") from error
    trained, shapes = trainable_parameters(network), network.shapes()
    for name in trained:  # all of them before any memory is taken
        _check(constants.get(name), name, list(shapes[name]))
    parameters = {name: torch.zeros(shape) for name, shape in shapes.items() if name not in trained}
    for name in trained:
        parameters[name] = torch.from_numpy(numpy_helper.to_array(constants[name]).copy())
        if not bool((parameters[name].abs() <= LARGEST_MAGNITUDE).all()):  # which no NaN is
            raise ValueError(f"the bundle's encoder holds numbers beyond {LARGEST_MAGNITUDE:g}, or none, in its {name}")
    return parameters


def _check(constant: TensorProto | None, name: str, asked: list[int]) -> None:
    found = None if constant is None else list(constant.dims)
    if constant is None or found != asked:
        has = f"no {name}" if found is None else f"a {name} of {found}"
        raise ValueError(f"the bundle's encoder has {has}, and the one asked for has {asked}")
    # What lies outside, by whatever path, is not opened: it would end up in the next encoder.
    if constant.data_location != TensorProto.DEFAULT or constant.data_type != TensorProto.FLOAT:
        raise ValueError(f"the bundle's encoder does not hold its {name} as float32 in the file itself")
    if len(constant.raw_data) != 4 * math.prod(asked):
        raise ValueError(f"the bundle's encoder has a {name} of {asked} with {len(constant.raw_data)} bytes")
