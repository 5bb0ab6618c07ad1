"""An encoder in torch gives the features that onnxruntime gives, and its gradient reaches every picture."""

from __future__ import annotations

import pytest
import torch
from onnx import TensorProto, helper

from tests.tolerances import assert_close
from tests.trainer.data.encoders.test_standard_form import SCALING, SIZE, description, run, tower
from trainer.data.encoders.differentiable import DifferentiableEncoder
from trainer.data.encoders.installed import installed_encoder
from trainer.data.encoders.standard_form import standard_form

CPU = torch.device("cpu")
LAYERS, WINDOW = 50, 25 * 144  # convolutions one after another, and products of one of them


@pytest.mark.parametrize("size", [32, 45])
def test_features_are_those_of_onnxruntime(size: int) -> None:
    encoder = installed_encoder("efficientnet-lite0", size)
    pixels = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    found, expected = (
        DifferentiableEncoder(encoder.model, CPU)(pixels),
        torch.from_numpy(encoder.encode(pixels.numpy())),
    )
    assert_close(found, expected, terms=LAYERS * WINDOW)
    assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.parametrize("plain", [False, True])
def test_another_tower_with_default_strides_and_groups_is_computed_too(plain: bool) -> None:
    model = standard_form(tower(), SCALING, description(), plain=plain)
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(run(model, pixels.numpy()))
    assert_close(DifferentiableEncoder(model, CPU)(pixels), expected, terms=75 * SIZE * SIZE)


def test_gradients_are_finite_also_where_features_are_zero() -> None:
    encoder = DifferentiableEncoder(installed_encoder("efficientnet-lite0", 32).model, CPU)
    pixels = torch.stack([torch.zeros(3, 32, 32), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))])
    features = encoder(pixels.requires_grad_())
    (features @ torch.randn(features.shape[1], generator=torch.Generator().manual_seed(1))).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert (pixels.grad.flatten(1).abs().max(dim=1).values > 0).all()


def test_an_operator_without_a_gradient_here_is_named() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("images", "queries")]
    graph = helper.make_graph([helper.make_node("Erf", ["images"], ["queries"])], "tower", values[:1], values[1:])
    with pytest.raises(ValueError, match="gradients through the ONNX operator Erf are not known here"):
        DifferentiableEncoder(helper.make_model(graph).SerializeToString(), CPU)
