"""Whatever form an image tower comes in, its features stay the same in the standard form."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from recall_server.core.encoders.description import EncoderDescription
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.errors import InvalidBundle
from tests.tolerances import assert_close
from trainer.data.encoders.standard_form import Scaling, standard_form

WIDTH, SIZE = 24, 8
SCALING = Scaling((0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def tower(
    *, last: bool = False, side: int | str = "S", outputs: tuple[str, ...] = ("features",), inputs: int = 1
) -> onnx.ModelProto:
    """A convolution, a mean and, where the channels come last, a transposition; weights large enough to be halved."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, 3, 5, 5)).astype(np.float32)
    nodes = [helper.make_node("Transpose", ["pixels"], ["first"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node(
            "Conv", ["first" if last else "pixels", "w"], ["c"], kernel_shape=[5, 5], auto_pad="SAME_UPPER"
        ),
        helper.make_node("GlobalAveragePool", ["c"], ["mean"]),
        *(helper.make_node("Flatten", ["mean"], [name], axis=1) for name in outputs),
    ]
    shape: list[Any] = ["N", side, side, 3] if last else ["N", 3, side, side]
    names = ["pixels", *(f"other{index}" for index in range(1, inputs))]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in outputs],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def description(size: int = SIZE) -> EncoderDescription:
    return EncoderDescription(name="tower", size=size, width=WIDTH, source="a test", licence="MIT")


def run(model: bytes, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pixels})[0])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("side", ["S", SIZE])
def test_features_are_those_of_the_model_with_its_own_scaling(last: bool, side: int | str) -> None:
    model = tower(last=last, side=side)
    pixels = np.random.default_rng(1).random((3, 3, SIZE, SIZE), dtype=np.float32)
    mean, deviation = (np.float32(numbers).reshape(1, 3, 1, 1) for numbers in (SCALING.mean, SCALING.deviation))
    scaled = (pixels - mean) / deviation
    expected = run(model.SerializeToString(), np.ascontiguousarray(scaled.transpose(0, 2, 3, 1)) if last else scaled)
    full = standard_form(model, SCALING, description(), half=False, plain=True)
    assert_close(run(full, pixels), expected, terms=75 * SIZE * SIZE)
    halved = standard_form(model, SCALING, description(), plain=True)
    assert np.abs(run(halved, pixels) - expected).max() <= 2**-10 * np.abs(expected).max() * 75**0.5
    assert len(halved) < 0.6 * len(full)


def test_features_are_signed_square_roots_of_length_one_unless_they_are_to_be_plain() -> None:
    pixels = np.random.default_rng(1).random((3, 3, SIZE, SIZE), dtype=np.float32)
    plain = run(standard_form(tower(), SCALING, description(), plain=True), pixels)
    assert (plain < 0).any() and (plain > 0).any()
    roots = np.sign(plain) * np.sqrt(np.abs(plain))
    found = run(standard_form(tower(), SCALING, description()), pixels)
    assert_close(found, roots / np.linalg.norm(roots, axis=1, keepdims=True), terms=WIDTH)


def test_all_zero_features_give_finite_numbers() -> None:
    model = tower()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((WIDTH, 3, 5, 5), np.float32), "w"))
    features = run(standard_form(model, SCALING, description()), np.zeros((1, 3, SIZE, SIZE), np.float32))
    assert np.array_equal(features, np.zeros((1, WIDTH)))


def test_the_same_model_gives_the_same_bytes() -> None:
    assert standard_form(tower(), SCALING, description()) == standard_form(tower(), SCALING, description())


def test_a_model_of_free_size_is_loaded_for_the_requested_size(tmp_path: Path) -> None:
    data = standard_form(tower(), SCALING, description())
    (tmp_path / "tower.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    for size in (SIZE, 12):
        encoder = QueryEncoder(tmp_path / "tower.onnx", digest, image_shape=(3, size, size), device="cpu")
        assert encoder.image_shape == (3, size, size) and encoder.query_size == WIDTH
    with pytest.raises(InvalidBundle, match="must take float32 images"):
        QueryEncoder(tmp_path / "tower.onnx", digest, device="cpu")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (tower(inputs=2), "one input, not 2: pixels, other1"),
        (tower(outputs=("features", "logits")), "several outputs, features, logits; choose the features with --output"),
        (tower(side=16), "pictures of 16x16, not of 8x8"),
    ],
)
def test_models_that_are_no_image_towers_are_refused_in_a_sentence(model: onnx.ModelProto, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        standard_form(model, SCALING, description())


@pytest.mark.parametrize("numbers", [(), (1.0, 2.0), (0.0,), (-1.0, 1.0, 1.0)])
def test_an_invalid_scaling_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="deviation"):
        Scaling((0.5,), numbers)
