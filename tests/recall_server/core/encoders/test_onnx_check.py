"""ONNX files that reach out of themselves, or claim more than they hold, are refused before a runtime sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto, helper

from recall_server.core.encoders import onnx_check
from recall_server.core.encoders.onnx_check import check_onnx
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidBundle
from tests.recall_server.serving_examples import column_encoder

SECRET = b"SECRET=0123456789abcdef"
INNER = TensorProto(name="inner", data_type=TensorProto.FLOAT, raw_data=b"\0" * 4)


def external(name: str = "stolen", *, dims: tuple[int, ...] = ()) -> TensorProto:
    """A float32 tensor whose bytes are those of the file .env."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", ".env"), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def subgraph(tensor: TensorProto) -> GraphProto:
    output = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, [])
    return helper.make_graph([], "branch", [], [output], [tensor])


def initializer(model: ModelProto) -> None:
    model.graph.initializer.append(external())


def constant(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["stolen"], value=external()))


def constants(model: ModelProto) -> None:
    attribute = AttributeProto(name="value", type=AttributeProto.TENSORS, tensors=[external()])
    model.graph.node.append(helper.make_node("Constant", [], ["stolen"]))
    model.graph.node[-1].attribute.append(attribute)


def branch(model: ModelProto) -> None:
    graphs = {"then_branch": subgraph(external()), "else_branch": subgraph(external())}
    model.graph.node.append(helper.make_node("If", ["condition"], ["stolen"], **graphs))


def branch_in_branch(model: ModelProto) -> None:
    inner = subgraph(INNER)
    inner.node.append(helper.make_node("If", ["c"], ["x"], then_branch=subgraph(external())))
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=inner))


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.append(SparseTensorProto(values=external(dims=(1,)), dims=[4]))


def sparse_attribute(model: ModelProto) -> None:
    node = helper.make_node("Constant", [], ["stolen"])
    value = SparseTensorProto(values=external(dims=(1,)), dims=[4])
    node.attribute.append(AttributeProto(name="sparse_value", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=value))
    model.graph.node.append(node)


def location_without_a_mark(model: ModelProto) -> None:
    tensor = external()
    tensor.data_location = TensorProto.DEFAULT
    tensor.raw_data = b"\0\0\0\0"
    model.graph.initializer.append(tensor)


def training_graph(model: ModelProto) -> None:
    model.training_info.add().initialization.initializer.append(external())


def function(model: ModelProto) -> None:
    imports = [helper.make_opsetid("", 17)]
    node = helper.make_node("Constant", [], ["y"], value=external())
    model.functions.append(helper.make_function("ai.onnx", "Steal", [], ["y"], [node], imports))


def foreign_import(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def foreign_operator(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="/x"))


def foreign_operator_in_a_branch(model: ModelProto) -> None:
    graph = subgraph(INNER)
    graph.node.append(helper.make_node("PyOp", [], ["y"], domain="ai.onnx.contrib"))
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=graph))


def endless(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=subgraph(INNER)))


def endless_in_a_branch(model: ModelProto) -> None:
    graph = subgraph(INNER)
    graph.node.append(helper.make_node("Scan", ["x"], ["y"], body=subgraph(INNER), num_scan_inputs=1))
    model.graph.node.append(helper.make_node("If", ["c"], ["x"], then_branch=graph))


def more_than_the_file_holds(model: ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10**6], raw_data=b"\0" * 4))


def more_than_is_accepted(model: ModelProto) -> None:
    model.graph.sparse_initializer.append(SparseTensorProto(dims=[10**6, 10**6]))


def negative(model: ModelProto) -> None:
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1, -1], raw_data=b"\0" * 4)
    )


def segmented(model: ModelProto) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\0" * 4)
    tensor.segment.begin = 7
    model.graph.initializer.append(tensor)


HOSTILE: dict[Callable[[ModelProto], None], str] = {
    initializer: "stored in another file",
    constant: "stored in another file",
    constants: "stored in another file",
    branch: "stored in another file",
    branch_in_branch: "stored in another file",
    sparse: "stored in another file",
    sparse_attribute: "stored in another file",
    location_without_a_mark: "stored in another file",
    training_graph: "functions or training graphs",
    function: "functions or training graphs",
    foreign_import: "the domain 'com.microsoft'",
    foreign_operator: "the domain 'com.microsoft'",
    foreign_operator_in_a_branch: "the domain 'ai.onnx.contrib'",
    endless: "operator Loop",
    endless_in_a_branch: "operator Scan",
    more_than_the_file_holds: "declares 1,000,000 numbers, but",
    more_than_is_accepted: "more than 64,000,000 numbers",
    negative: "a negative size",
    segmented: "in segments",
}


def test_an_encoder_passes_and_comes_back_parsed() -> None:
    assert len(check_onnx(column_encoder()).graph.node) == 4


@pytest.mark.parametrize(("spoil", "sentence"), HOSTILE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_model_with_external_data_is_refused(spoil: Callable[[ModelProto], None], sentence: str) -> None:
    model = onnx.load_from_string(column_encoder())
    spoil(model)
    with pytest.raises(ValueError, match=sentence):
        check_onnx(model.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"no network", b"\xff" * 100, ModelProto(ir_version=8).SerializeToString()])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it is no ONNX model"):
        check_onnx(data)


def test_a_model_in_the_format_of_onnxruntime_is_refused() -> None:
    model = onnx.load_from_string(column_encoder())
    model.producer_name = "ORTM" + "x" * 8
    data = model.SerializeToString()
    assert data[4:8] == b"ORTM"
    with pytest.raises(ValueError, match="format of onnxruntime"):
        check_onnx(data)


def test_more_operators_than_any_encoder_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_check, "MOST_NODES", 3)
    with pytest.raises(ValueError, match="3 operators"):
        check_onnx(column_encoder())


def test_an_encoder_does_not_read_the_files_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(SECRET)
    model = onnx.load_from_string(column_encoder())
    model.graph.initializer.remove(model.graph.initializer[1])
    model.graph.initializer.append(external("sharpness"))
    data = model.SerializeToString()
    Path("encoder.onnx").write_bytes(data)
    with pytest.raises(InvalidBundle, match="stored in another file"):
        QueryEncoder("encoder.onnx", hashlib.sha256(data).hexdigest(), device="cpu")
