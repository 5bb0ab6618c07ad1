"""Norm, ReLU and pooling by hand equal what autograd makes of them, in torch and in C++; so do the convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, group_norm, relu

from recall_server.core.networks.kernels import (
    EPSILON,
    AbstractBlocks,
    Affine,
    NativeBlocks,
    TorchBlocks,
    native_blocks,
)
from recall_server.core.networks.kernels.convolutions import AbstractConvolution, Direct, Windows, convolution_of
from recall_server.core.networks.kernels.native_convolutions import NativeWindows, Winograd
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close

CHANNELS = 37  # no multiple of a vector's lanes
STORED = (torch.float64, torch.float32, torch.bfloat16)
TERMS = 36  # numbers that a norm averages, and a few operations on each


class Drawn:
    """Random tensors of one block: `a` and `gy`, the parts of their directions, and the norm's vectors."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)

        def images(size: int) -> Tensor:
            return torch.randn(3, CHANNELS, size, size, generator=generator, dtype=torch.float64).to(dtype)

        def norm() -> Affine:
            vectors = torch.randn(2, CHANNELS, generator=generator, dtype=torch.float64)
            return Affine(*vectors.to(torch.float32 if dtype == torch.bfloat16 else dtype))

        self.a, self.a_dot, self.a_more = images(6), images(6), images(6)
        self.gy, self.gy_dot, self.gy_more = images(3), images(3), images(3)
        self.norm, self.norm_dot = norm(), norm()

    def value(self, blocks: AbstractBlocks) -> list[Tensor]:
        """y, ga, and the gradients for scale and shift."""
        y, value = blocks.forward(self.a, self.norm)
        return [y, *blocks.backward(value, self.gy)]

    def tangent(self, blocks: AbstractBlocks, *, more: bool = True) -> list[Tensor]:
        """y with y', ga' with ga, and the derivatives of the gradients for scale and shift."""
        a_more, gy_more = (self.a_more, self.gy_more) if more else (None, None)
        both, value = blocks.forward_tangent(self.a, self.a_dot.clone(), a_more, self.norm, self.norm_dot)
        return [both, *blocks.backward_tangent(value, self.gy, self.gy_dot.clone(), gy_more)]


def terms_of(dtype: torch.dtype) -> int:
    """Roundings of a number of a block: what is stored in bfloat16 is computed in float32 and rounded once."""
    return 1 if dtype == torch.bfloat16 else TERMS


@pytest.fixture
def native() -> NativeBlocks:
    return native_blocks() or pytest.skip(NO_COMPILER)


def block(a: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return avg_pool2d(relu(group_norm(a, CHANNELS, scale, shift, eps=EPSILON)), 2)


def block_gradient(a: Tensor, scale: Tensor, shift: Tensor, gy: Tensor) -> tuple[Tensor, ...]:
    return torch.func.vjp(block, a, scale, shift)[1](gy)


def test_the_gradient_of_a_block_is_that_of_autograd() -> None:
    drawn = Drawn()
    oracle = [block(drawn.a, *drawn.norm), *block_gradient(drawn.a, *drawn.norm, drawn.gy)]
    assert_close(drawn.value(TorchBlocks()), oracle, terms=TERMS)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own forward mode uses it
def test_the_derivative_of_a_block_and_of_its_gradient_are_those_of_autograd() -> None:
    drawn = Drawn()
    a_dot, gy_dot = drawn.a_dot + drawn.a_more, drawn.gy_dot + drawn.gy_more
    y, y_dot = torch.func.jvp(block, (drawn.a, *drawn.norm), (a_dot, *drawn.norm_dot))
    gradient, derivative = torch.func.jvp(
        block_gradient, (drawn.a, *drawn.norm, drawn.gy), (a_dot, *drawn.norm_dot, gy_dot)
    )
    oracle = [torch.cat((y, y_dot)), torch.cat((derivative[0], gradient[0])), *derivative[1:]]
    assert_close(drawn.tangent(TorchBlocks()), oracle, terms=TERMS)


@pytest.mark.parametrize("dtype", STORED, ids=str)
@pytest.mark.parametrize("more", [False, True])
def test_compiled_blocks_agree_with_the_reference(native: NativeBlocks, dtype: torch.dtype, more: bool) -> None:
    drawn = Drawn(dtype)
    mine = drawn.value(native) + drawn.tangent(native, more=more)
    oracle = drawn.value(TorchBlocks()) + drawn.tangent(TorchBlocks(), more=more)
    assert_close(mine, oracle, terms=terms_of(dtype), dtype=dtype)


def test_compiled_blocks_give_the_same_bytes_for_any_number_of_threads(native: NativeBlocks) -> None:
    drawn, before = Drawn(torch.float32), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(drawn.tangent(native))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results for one, other in zip(result, results[0], strict=True))


def test_channels_that_do_not_vary_give_finite_numbers(native: NativeBlocks) -> None:
    drawn = Drawn(torch.float32)
    drawn.a = torch.full_like(drawn.a, 0.25)
    assert all(tensor.isfinite().all() for tensor in drawn.tangent(native))


@pytest.mark.parametrize("kind", ["torch", "C++"])
def test_the_relu_propagates_nan(kind: str, native: NativeBlocks) -> None:
    drawn = Drawn(torch.float32)
    drawn.a[1, 5, 0, 0] = torch.nan
    for tensor in drawn.value(TorchBlocks() if kind == "torch" else native)[:2]:
        assert tensor[1, 5].isnan().all()
        assert tensor[0].isfinite().all()


def assert_convolves(convolution: AbstractConvolution, images: Tensor, filters: int) -> None:
    """Its outputs and gradients, and those of the first images alone, are what autograd gives in float64."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(filters, images.shape[1], 3, 3, generator=generator, dtype=torch.float64).to(images.dtype)
    g = torch.randn(len(images), filters, *images.shape[2:], generator=generator, dtype=torch.float64).to(images.dtype)
    output, pull = torch.func.vjp(lambda x, w: conv2d(x, w, padding=1), images.double(), weight.double())
    for_input, for_weight = pull(g.double())
    output, for_input, for_weight = (oracle.to(images.dtype) for oracle in (output, for_input, for_weight))
    inputs = images.shape[1]
    gain = 4 if isinstance(convolution, Winograd) else 1  # its transforms multiply by up to 8, and cancel
    assert_close(convolution.apply(weight), output, terms=9 * inputs, gain=gain)
    assert_close(convolution.for_input(g, weight), for_input, terms=9 * filters, gain=gain)
    assert_close(convolution.for_weight(g, weight), for_weight, terms=g[:, 0].numel(), gain=gain)
    assert_close(convolution.first(2).apply(weight), output[:2], terms=9 * inputs, gain=gain)
    assert_close(convolution.first(2).for_input(g[:2], weight), for_input[:2], terms=9 * filters, gain=gain)


def drawn_images(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", [Windows, Direct])
def test_both_kinds_of_convolution_have_the_gradients_of_autograd(kind: type[Windows] | type[Direct]) -> None:
    images = drawn_images(4, 3, 5, 7)
    assert_convolves(Windows.of(images) if kind is Windows else Direct(images), images, filters=6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("channels", "size", "filters"),
    [(1, (28, 28), 32), (3, (32, 32), 64), (4, (5, 2), 32), (32, (8, 8), 64), (64, (16, 16), 32), (32, (7, 2), 96)],
    ids=str,
)
def test_compiled_convolutions_have_the_gradients_of_autograd(
    native: NativeBlocks, channels: int, size: tuple[int, int], filters: int, dtype: torch.dtype
) -> None:
    images = drawn_images(17, channels, *size, dtype=dtype)
    convolution = native.convolution(images, filters, dtype)
    assert isinstance(convolution, Winograd if channels > 4 else NativeWindows)
    assert_convolves(convolution, images, filters)


@pytest.mark.parametrize("channels", [3, 64])
def test_compiled_convolutions_give_the_same_bytes_for_any_number_of_threads(
    native: NativeBlocks, channels: int
) -> None:
    images, before = drawn_images(40, channels, 16, 16, dtype=torch.float32), torch.get_num_threads()
    weight, g = drawn_images(64, channels, 3, 3, dtype=torch.float32), drawn_images(40, 64, 16, 16, dtype=torch.float32)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            convolution = native.convolution(images, 64, torch.float32)
            results.append(
                [convolution.apply(weight), convolution.for_weight(g, weight), convolution.for_input(g, weight)]
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results for one, other in zip(result, results[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("channels", "filters", "depth"), [(1, 32, 3), (3, 64, 2), (4, 32, 1), (32, 32, 2), (3, 48, 2)], ids=str
)
def test_all_blocks_in_one_call_give_the_bytes_of_single_calls(
    native: NativeBlocks, channels: int, filters: int, depth: int, dtype: torch.dtype
) -> None:
    images, blocks = drawn_images(5, channels, 16, 24, dtype=dtype), []
    for block in range(depth):
        weight = drawn_images(filters, filters if block else channels, 3, 3, dtype=dtype)
        blocks.append((weight, Affine(*drawn_images(2, filters, 1, 1, dtype=dtype).flatten(1))))
    result = native.chain(images, blocks, dtype)
    assert torch.equal(result, AbstractBlocks.chain(native, images, blocks, dtype))
    assert result.shape == (5, filters, 16 >> depth, 24 >> depth)


def test_unsupported_convolutions_fall_back_to_torch(native: NativeBlocks) -> None:
    for channels, filters, dtype in ((32, 48, torch.float32), (33, 64, torch.float32), (64, 64, torch.bfloat16)):
        convolution = native.convolution(torch.zeros(1, channels, 4, 4), filters, dtype)
        assert isinstance(convolution, Direct)


def test_few_channels_use_windows_and_many_use_torch() -> None:
    assert isinstance(convolution_of(torch.zeros(1, 3, 4, 4), torch.float32), Windows)
    assert isinstance(convolution_of(torch.zeros(1, 5, 4, 4), torch.float32), Direct)
