"""Blocks and windows in Triton, interpreted or on a GPU; `test_triton.py` runs this file, in a process of its own.

Whether kernels are interpreted is decided when Triton is first imported, and torch imports it for purposes of its own.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from recall_server.core.networks.kernels import TorchBlocks
from tests.recall_server.core.networks.kernels.test_kernels import Drawn, terms_of
from tests.tolerances import assert_close
from trainer.objectives.inner.kernels.normalise_pool import TritonBlocks
from trainer.objectives.inner.kernels.windows import TritonWindows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(drawn: Drawn) -> Drawn:
    for name, value in vars(drawn).items():
        moved = value.to(DEVICE) if isinstance(value, Tensor) else type(value)(*(part.to(DEVICE) for part in value))
        setattr(drawn, name, moved)
    return drawn


@pytest.mark.parametrize(("dtype", "more"), [(torch.float64, True), (torch.float32, False), (torch.bfloat16, True)])
def test_blocks_in_triton_agree_with_the_reference(dtype: torch.dtype, more: bool) -> None:
    drawn = on_device(Drawn(dtype))
    mine = drawn.value(TritonBlocks()) + drawn.tangent(TritonBlocks(), more=more)
    oracle = drawn.value(TorchBlocks()) + drawn.tangent(TorchBlocks(), more=more)
    assert_close(mine, oracle, terms=terms_of(dtype), dtype=dtype)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of the interpreter
def test_triton_propagates_nan_and_constant_channels_give_none() -> None:
    drawn = on_device(Drawn(torch.float32))
    drawn.a[1, 5, 0, 0] = torch.nan
    for tensor in drawn.value(TritonBlocks())[:2]:
        assert tensor[1, 5].isnan().all()
        assert tensor[0].isfinite().all()
    drawn.a = torch.full_like(drawn.a, 0.25)
    assert all(tensor.isfinite().all() for tensor in drawn.tangent(TritonBlocks()))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_windows_in_triton_have_the_gradients_of_autograd(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(DEVICE)

    images, weight, g = draw(4, channels, 5, 7), draw(6, channels, 3, 3), draw(4, 6, 5, 7)
    convolution = TritonBlocks().convolution(images, 6, torch.float64)
    assert isinstance(convolution, TritonWindows)
    output, pull = torch.func.vjp(lambda x, w: conv2d(x, w, padding=1), images, weight)
    for_input, for_weight = pull(g)
    assert_close(convolution.apply(weight), output, terms=9 * channels)
    assert_close(convolution.for_input(g, weight), for_input, terms=9 * 6)
    assert_close(convolution.for_weight(g, weight), for_weight, terms=4 * 5 * 7)
    assert_close(convolution.first(2).apply(weight), output[:2], terms=9 * channels)
