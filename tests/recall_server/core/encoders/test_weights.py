"""The parameters read from an encoder's file are those that were written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.encoders.weights import encoder_parameters, learned_layers
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from tests.tolerances import assert_close

SHAPE = (3, 16, 16)
SMALL = build_network(NetworkSpec(filters=4, depth=2), SHAPE, 5)
PREPROCESSING = Standardise(torch.full((3,), 0.5), torch.full((3,), 0.25))


def written() -> bytes:
    """The file of a small encoder."""
    parameters = SMALL.initialise(torch.Generator().manual_seed(0))
    return export_network(SMALL, parameters, PREPROCESSING, SHAPE, output="queries", metadata={})


def changed(change: Callable[[TensorProto], object]) -> bytes:
    """The same with its last constant changed, which is one of the parameters."""
    model = onnx.load_model_from_string(written())
    change(model.graph.initializer[-1])
    return model.SerializeToString()


def elsewhere(constant: TensorProto) -> None:
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="pyproject.toml")
    constant.ClearField("raw_data")


@pytest.mark.parametrize(
    "spec", [NetworkSpec(filters=4), NetworkSpec(architecture="resnet"), NetworkSpec(architecture="mlp", hidden=7)]
)
def test_an_encoder_gives_the_same_queries_when_read_back(spec: NetworkSpec) -> None:
    network = build_network(spec, SHAPE, 5)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    model = export_network(network, parameters, PREPROCESSING, SHAPE, output="queries", metadata={})
    again = encoder_parameters(model, network)
    assert again.keys() == parameters.keys()
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert_close(network.logits(again, images), network.logits(parameters, images), terms=9 * 512)


@pytest.mark.parametrize(
    ("filters", "depth", "queries", "sentence"),
    [
        (8, 2, 5, r"the bundle's encoder has a \S+ of shape \[4, 3, 3, 3\], but the network needs \[8, 3, 3, 3\]"),
        (4, 3, 5, "the bundle's encoder has no "),
        (
            4,
            2,
            6,
            r"a classifier.weight of shape \[5, 64\], but the network needs \[6, 64\]",
        ),
    ],
)
def test_another_encoder_is_refused_with_what_differs(filters: int, depth: int, queries: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encoder_parameters(written(), build_network(NetworkSpec(filters=filters, depth=depth), SHAPE, queries))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (b"no model", "is not an ONNX model whose layers can be read"),
        (changed(elsewhere), "does not store its classifier.bias as float32 in the file itself"),
        (
            changed(lambda it: setattr(it, "data_type", TensorProto.INT64)),
            "does not store its classifier.bias as float32",
        ),
        (
            changed(lambda it: setattr(it, "raw_data", np.float32([1, 2, np.nan, 4, 5]).tobytes())),
            "has values beyond 1e.06 or NaN in its classifier.bias",
        ),
        (
            changed(lambda it: setattr(it, "raw_data", np.float32([1, 2, 3, -2e6, 5]).tobytes())),
            "has values beyond 1e.06 or NaN in its classifier.bias",
        ),
        (changed(lambda it: setattr(it, "raw_data", b"1234")), r"has a classifier.bias of shape \[5\] with 4 bytes"),
    ],
)
def test_weights_of_foreign_files_are_refused_in_a_sentence(model: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        encoder_parameters(model, SMALL)


def test_pretrained_layers_are_all_but_the_last(tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(written())
    encoder = QueryEncoder(tmp_path / "encoder.onnx", hashlib.sha256(written()).hexdigest(), device="cpu")
    schedule = Retraining(network=NetworkSpec(filters=4, depth=2), steps=1, learning_rate=0.1, rows_per_class=1)
    assert learned_layers(encoder, schedule) is None, "it begins at random"
    warm = schedule.model_copy(update={"initial": "encoder"})
    learned = learned_layers(encoder, warm)
    assert learned is not None
    assert {*SMALL.shapes()} - {*learned} == {"classifier.weight", "classifier.bias"}
    with pytest.raises(ValueError, match="the bundle's encoder has no block2"):
        learned_layers(encoder, warm.model_copy(update={"network": NetworkSpec(filters=4)}))


def test_an_encoder_description_larger_than_its_file_allocates_nothing() -> None:
    huge = build_network(NetworkSpec(architecture="mlp", hidden=65_536, depth=8), SHAPE, 5)
    with pytest.raises(ValueError, match="the bundle's encoder has no "):
        encoder_parameters(written(), huge)
