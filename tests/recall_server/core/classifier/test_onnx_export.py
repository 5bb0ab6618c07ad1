"""The exported ONNX models agree with torch for every network and every preprocessing."""

from __future__ import annotations

import json
from collections.abc import Mapping

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.classifier.onnx_graph import OPSET
from recall_server.core.networks import AbstractNetwork, NetworkSpec, Parameters, build_network
from recall_server.core.preprocessing import PREPROCESSINGS, ZCA, Projected, Spectral, Standardise
from recall_server.core.preprocessing.base import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from tests.tolerances import assert_close, rounding

SPECS = [
    "convnet:filters=8,depth=3",
    "convnet:filters=4,depth=1",
    "convnet:filters=4,depth=1,shrink=2",
    "resnet",
    "alexnet",
    "mlp:hidden=16,depth=2",
    "linear",
]
SHAPES = [(1, 12, 12), (3, 9, 13)]  # padded to 16; odd and oblong
LONGEST_SUM = 9 * 512  # of the last convolutions of a resnet


def _pixels(shape: tuple[int, int, int], number: int = 7) -> Tensor:
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(3))


def _preprocessing(kind: str, shape: tuple[int, int, int], directions: int | None = 20) -> AbstractPreprocessing:
    pixels = _pixels(shape, 60)
    if kind == "zca":
        return ZCA.fit(pixels, directions=directions)
    if kind == "spectral":
        return Spectral.fit(pixels)
    standard = Standardise.fit(pixels)
    return Projected.onto(pixels[:directions], standard) if kind == "projected" else standard


def _network(spec: str, shape: tuple[int, int, int]) -> tuple[AbstractNetwork, Parameters]:
    """A network whose norms, too, have parameters of their own."""
    network, generator = build_network(NetworkSpec.parse(spec), shape, 5), torch.Generator().manual_seed(0)
    parameters = network.initialise(generator)
    norms = {name for name in parameters if name.endswith((".scale", ".shift"))}
    return network, {
        name: value + 0.3 * torch.randn(value.shape, generator=generator) if name in norms else value
        for name, value in parameters.items()
    }


def _run(model: bytes, pixels: Tensor, output: str) -> Tensor:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["images"]
    return torch.from_numpy(session.run([output], {"images": pixels.numpy()})[0])


def test_the_table_of_preprocessings_is_covered() -> None:
    assert set(PREPROCESSINGS) == {"standardise", "zca", "projected", "spectral"}


@pytest.mark.parametrize("kind", PREPROCESSINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", SPECS)
def test_queries_are_the_logits_that_torch_computes(spec: str, shape: tuple[int, int, int], kind: str) -> None:
    preprocessing = _preprocessing(kind, shape)
    network, parameters = _network(spec, shape)
    model = export_network(network, parameters, preprocessing, shape, output="queries", metadata={})
    pixels = _pixels(shape)
    expected = network.logits(parameters, preprocessing.to_model(pixels))
    assert_close(_run(model, pixels, "queries"), expected, terms=LONGEST_SUM)


@pytest.mark.parametrize("kind", PREPROCESSINGS)
@pytest.mark.parametrize("spec", SPECS)
def test_an_exported_classifier_predicts_the_same(spec: str, kind: str) -> None:
    shape = (1, 12, 12)
    preprocessing, labels = _preprocessing(kind, shape), ["bear", "grün", "wolf"]
    retraining = Retraining(network=NetworkSpec.parse(spec), steps=3, learning_rate=0.01, rows_per_class=4)
    recalled = preprocessing.to_model(_pixels(shape, 12)).view(3, 4, *shape)
    classifier = FreshClassifier(labels, shape, preprocessing, retraining).fit(recalled, torch.eye(3))
    model, pixels = classifier.export_onnx(), _pixels(shape, 9)
    found, expected = _run(model, pixels, "probabilities"), classifier.predict_probabilities(pixels)
    assert_close(found, expected, terms=LONGEST_SUM, size=1)
    apart = float((expected - expected[0]).abs().max())
    assert apart > 10 * rounding(torch.float32, terms=LONGEST_SUM), "or nothing would be told"
    assert json.loads(_metadata(model)["labels"]) == labels


def test_full_whitening_is_exported_too() -> None:
    shape = (1, 8, 8)
    preprocessing = ZCA.fit(_pixels(shape, 300))
    network, parameters = _network("convnet:filters=4,depth=2", shape)
    model = export_network(network, parameters, preprocessing, shape, output="queries", metadata={})
    expected = network.logits(parameters, preprocessing.to_model(_pixels(shape)))
    assert_close(_run(model, _pixels(shape), "queries"), expected, terms=LONGEST_SUM)


@pytest.mark.parametrize("number", [0, 1, 33])
def test_the_model_takes_any_number_of_pictures(number: int) -> None:
    network, parameters = _network(SPECS[0], (1, 12, 12))
    preprocessing = _preprocessing("standardise", (1, 12, 12))
    model = export_network(network, parameters, preprocessing, (1, 12, 12), output="queries", metadata={})
    assert _run(model, torch.zeros(number, 1, 12, 12), "queries").shape == (number, 5)


def test_the_same_network_gives_the_same_bytes_whatever_the_order_of_metadata() -> None:
    shape = (1, 12, 12)
    network, parameters = _network(SPECS[0], shape)
    preprocessing = _preprocessing("zca", shape)
    first, again = (
        export_network(network, parameters, preprocessing, shape, output="queries", metadata=metadata)
        for metadata in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    )
    assert first == again
    assert _metadata(first) == {"a": "1", "b": "2"}


def test_the_model_is_plain_onnx_of_the_opset_it_declares() -> None:
    shape = (3, 9, 13)
    network, parameters = _network("resnet", shape)
    model = onnx.load_from_string(
        export_network(network, parameters, _preprocessing("zca", shape), shape, output="probabilities", metadata={})
    )
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    sizes = [
        dimension.dim_param or dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert sizes == ["N", 3, 9, 13]


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 12, 13)])
def test_networks_and_preprocessings_for_other_images_are_refused(shape: tuple[int, int, int]) -> None:
    network, parameters = _network(SPECS[0], (1, 12, 12))
    preprocessing = _preprocessing("standardise", (1, 12, 12))
    with pytest.raises(ValueError, match="the network or the preprocessing does not accept images of shape"):
        export_network(network, parameters, preprocessing, shape, output="queries", metadata={})


def test_a_preprocessing_without_an_onnx_form_says_so() -> None:
    class Unheard(AbstractPreprocessing):
        kind = "unheard"

        def to_model(self, pixels: Tensor) -> Tensor:
            return pixels

        def to_pixels(self, images: Tensor) -> Tensor:
            return images

        def fits(self, image_shape: tuple[int, int, int]) -> bool:
            return True

        def tensors(self) -> dict[str, Tensor]:
            return {}

        @classmethod
        def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Unheard:
            return cls()

    network, parameters = _network(SPECS[0], (1, 12, 12))
    with pytest.raises(TypeError, match="no ONNX form of Unheard"):
        export_network(network, parameters, Unheard(), (1, 12, 12), output="queries", metadata={})


def _metadata(model: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(model).metadata_props}
