"""An ONNX file that keeps data elsewhere is refused before onnxruntime sees it, wherever the tensor hides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto, helper

import recall_client
from recall_client import LocalClassifier
from recall_client.local.onnx_file import is_self_contained
from tests.clients.local.onnx_models import brightness_model


def elsewhere(name: str = "stolen", *, location_only: bool = False) -> TensorProto:
    """A tensor whose 16 bytes are those of the file secret.env."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    if not location_only:
        tensor.external_data.add(key="location", value="secret.env")
        tensor.external_data.add(key="length", value="16")
    return tensor


def attribute(**fields: object) -> AttributeProto:
    return AttributeProto(name="value", **fields)  # type: ignore[arg-type]


def constant(model: ModelProto, value: AttributeProto) -> None:
    node = helper.make_node("Constant", [], ["unused"])
    node.attribute.append(value)
    model.graph.node.append(node)


def graph(tensor: TensorProto) -> GraphProto:
    return GraphProto(name="inner", initializer=[tensor])


def in_function(model: ModelProto) -> None:
    node = helper.make_node("Constant", [], ["out"])
    node.attribute.append(attribute(type=AttributeProto.TENSOR, t=elsewhere()))
    model.functions.add(name="f", domain="own", node=[node], output=["out"])


def in_function_default(model: ModelProto) -> None:
    model.functions.add(name="f", domain="own").attribute_proto.append(attribute(t=elsewhere()))


def sparse(tensor: TensorProto) -> SparseTensorProto:
    return SparseTensorProto(values=tensor, indices=helper.make_tensor("i", TensorProto.INT64, [4], range(4)), dims=[9])


def indices_elsewhere() -> SparseTensorProto:
    return SparseTensorProto(values=helper.make_tensor("v", TensorProto.FLOAT, [1], [1]), indices=elsewhere(), dims=[9])


HIDING_PLACES: dict[str, Callable[[ModelProto], object]] = {
    "initialiser": lambda model: model.graph.initializer.append(elsewhere()),
    "location without a file": lambda model: model.graph.initializer.append(elsewhere(location_only=True)),
    "sparse initialiser": lambda model: model.graph.sparse_initializer.append(sparse(elsewhere())),
    "sparse indices": lambda model: model.graph.sparse_initializer.append(indices_elsewhere()),
    "attribute": lambda model: constant(model, attribute(type=AttributeProto.TENSOR, t=elsewhere())),
    "attribute list": lambda model: constant(model, attribute(type=AttributeProto.TENSORS, tensors=[elsewhere()])),
    "sparse attribute": lambda model: constant(model, attribute(sparse_tensor=sparse(elsewhere()))),
    "sparse list": lambda model: constant(model, attribute(sparse_tensors=[sparse(elsewhere())])),
    "sub-graph": lambda model: constant(model, attribute(type=AttributeProto.GRAPH, g=graph(elsewhere()))),
    "sub-graph list": lambda model: constant(model, attribute(graphs=[graph(elsewhere())])),
    "function": in_function,
    "default of a function": in_function_default,
    "training": lambda model: model.training_info.add().initialization.initializer.append(elsewhere()),
    "training algorithm": lambda model: model.training_info.add().algorithm.initializer.append(elsewhere()),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_external_data_is_refused_anywhere_in_the_model(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.env").write_bytes(b"KEY=0123456789ab")
    monkeypatch.chdir(tmp_path)
    model = onnx.load_from_string(brightness_model())
    HIDING_PLACES[place](model)
    (tmp_path / "strange.onnx").write_bytes(model.SerializeToString())

    def never(*arguments: object, **options: object) -> None:
        pytest.fail("the runtime saw the file")

    monkeypatch.setattr("onnxruntime.InferenceSession", never)
    with pytest.raises(recall_client.UnreadableClassifier, match="strange.onnx keeps data in other files"):
        LocalClassifier.load(tmp_path / "strange.onnx")


def test_a_duplicate_graph_field_is_checked_completely() -> None:
    second = ModelProto()
    second.graph.initializer.append(elsewhere())
    merged = brightness_model() + second.SerializeToString()  # protobuf reads both as one message
    assert len(onnx.load_from_string(merged).graph.initializer) == 3
    assert not is_self_contained(merged)


def test_models_without_external_data_are_accepted() -> None:
    assert is_self_contained(brightness_model())
    model = onnx.load_from_string(brightness_model())
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    model.doc_string = "external_data: secret.env"
    assert is_self_contained(model.SerializeToString())


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"<html>", b"\x3a\xff", b"\xff" * 20, b"\x38\x01", b"\x3b", brightness_model()[:-3]]
)
def test_a_file_that_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(recall_client.UnreadableClassifier, match="the model is not an ONNX model that can be run"):
        LocalClassifier(data)
