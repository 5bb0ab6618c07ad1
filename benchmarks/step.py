"""One training step of a ConvNet on the CPU: this project's compiled step compared with autograd.

    python -m benchmarks.step [--images 300] [--filters 128] [--threads 1] [--quick]

`by_hand` is the step of classifiers and distilling, `torch_convolutions` the same with torch's convolutions, and
`autograd` the step of classifiers where nothing can be compiled. `reverse` is the reverse of a step, which distilling
needs. Seconds are the best of five. `of_products` is the arithmetic rate of a whole step, counted by the definition of
its convolutions, over the rate of torch's product of two 1024 x 1024 matrices in the same run. --quick: a narrow
network and few images. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from unittest import mock

import torch
from torch import Tensor

from benchmarks.command import CPU, command_parser, parse, print_figures
from recall_server.core.networks import ConvNet, kernels
from recall_server.core.networks.kernels.convolutions import convolution_of
from recall_server.core.training.descent import MomentumDescent
from recall_server.core.training.manual_backprop import by_hand
from trainer.objectives.inner.steps.convnet_step import ConvNetStep


def best(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest run, after one warm-up run."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def training_flops(network: ConvNet, images: int) -> int:
    """Floating-point operations of one step's convolutions: forward, weight gradients, and input gradients."""
    total, channels, (height, width) = 0, network.channels, network.padded_size()
    for block in range(network.depth):
        forward = 2 * 9 * channels * network.filters * (height >> block) * (width >> block)
        total += forward * (3 if block else 2)
        channels = network.filters
    return total * images


def measure(network: ConvNet, images: Tensor, targets: Tensor) -> dict[str, float]:
    """Seconds of a step by each implementation, and of its reverse."""
    parameters = network.initialise(torch.Generator().manual_seed(0))
    mu = network.initialise(torch.Generator().manual_seed(1))
    blocks = kernels.native_blocks()
    if blocks is None or by_hand(network, CPU) is None:
        raise SystemExit("no C++ compiler was found: install g++, or set CXX")
    descent = MomentumDescent(network, parameters)
    reverse = ConvNetStep(network, blocks)

    def step() -> None:
        descent.step(images, targets, rate=0.01, momentum=0.9)

    seconds = {
        "by_hand": best(step),
        "reverse": best(lambda: reverse.reverse(parameters, images, targets, mu), 3),
    }
    with mock.patch.object(
        kernels.NativeBlocks, "convolution", lambda self, images, filters, dtype: convolution_of(images, dtype)
    ):
        seconds["torch_convolutions"] = best(step)
        seconds["torch_convolutions_reverse"] = best(lambda: reverse.reverse(parameters, images, targets, mu), 3)
    with mock.patch("recall_server.core.training.descent.by_hand", lambda network, device: None):
        descent = MomentumDescent(network, parameters)
        seconds["autograd"] = best(step)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--filters", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parse(parser, arguments)
    count, filters = (20, 32) if options.quick else (options.images, options.filters)
    network = ConvNet(channels=3, height=32, width=32, classes=10, filters=filters)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 32, 32, generator=generator)
    targets = torch.eye(10)[torch.randint(10, (count,), generator=generator)]
    seconds = measure(network, images, targets)
    square = torch.randn(1024, 1024, generator=generator)
    rate = 2 * 1024**3 / best(lambda: square @ square)
    figures = {
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "times_autograd": round(seconds["autograd"] / seconds["by_hand"], 2),
        "reverse_times_torch_convolutions": round(seconds["torch_convolutions_reverse"] / seconds["reverse"], 2),
        "product_gflops": round(rate / 1e9, 1),
        "of_products": round(training_flops(network, count) / seconds["by_hand"] / rate, 2),
        "images": count,
        "filters": filters,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    print_figures(figures)


if __name__ == "__main__":
    main()
