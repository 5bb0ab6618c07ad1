"""Outer steps per second of this project's unroll and of other implementations, in one run.

    python -m benchmarks.unroll [--quick] [--filters 64] [--steps 20] [--batch 30] [--device cpu] [--threads 2]
                                [--seed 0]

An outer step trains a ConvNet-3 for T steps, scores it on 256 images and computes the gradient for all T * B training
images. All sides use the same network, images and T, and their gradients are compared with that of `host_offload` in
float64. If rounding moves an activation to the other side of its ReLU, the gradient jumps, so any side in float32 may
differ from the reference by some percent; which one does depends on `--seed`.

naive         the whole training in one graph (create_graph), eagerly
host_offload  the memory-saving scheme of the paper's authors: the weights of each step are copied to host memory, and
              the backward pass goes step by step, each with the graph of one step
ours          `trainer.objectives.inner.unroll` with the step that `recall-trainer` would choose, in float32
ours_bfloat16 the same with convolutions in bfloat16, if the device supports it

The other sides run with torch's defaults, each in its own process; ours run as in `recall-trainer`, which keeps freed
memory (core/training/allocator.py). `share_of_convolution_rate` is the rate of the convolutions' arithmetic over the
whole outer step, divided by the rate of this device in one convolution of the second block. --quick: fewer repeats and
a narrower network. The last line is JSON.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from benchmarks.command import command_parser, print_figures
from recall_server.core.networks import AbstractNetwork, ConvNet, Parameters
from recall_server.core.training.allocator import keep_freed_memory
from trainer.objectives.inner.precision import processor_has_bfloat16
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.inner.steps.step import TrainState, soft_cross_entropy
from trainer.objectives.inner.unroll import unroll

OURS = {"ours": torch.float32, "ours_bfloat16": torch.bfloat16}
CLASSES, REAL, RATE, MOMENTUM = 10, 256, 0.02, 0.9
OuterStep = Callable[[], Tensor]
Size = tuple[int, int, int, torch.device, int]  # the arguments of `Problem.draw`


@dataclass(frozen=True)
class Problem:
    """The data of one outer step; `gradient` differentiates the outer loss for the training images."""

    network: AbstractNetwork
    images: Tensor  # [T, B, 1, 28, 28]
    targets: Tensor  # [T, B, CLASSES]
    real: Tensor
    real_targets: Tensor
    parameters: Parameters

    @classmethod
    def draw(cls, filters: int, steps: int, batch: int, device: torch.device, seed: int) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        network = ConvNet(channels=1, height=28, width=28, classes=CLASSES, filters=filters)
        eye = torch.eye(CLASSES, device=device)
        return cls(
            network=network,
            images=torch.randn(steps, batch, 1, 28, 28, generator=generator).to(device),
            targets=eye[torch.arange(batch) % CLASSES].expand(steps, batch, CLASSES),
            real=torch.randn(REAL, 1, 28, 28, generator=generator).to(device),
            real_targets=eye[torch.arange(REAL) % CLASSES],
            parameters={name: value.to(device) for name, value in network.initialise(generator).items()},
        )

    def reference(self) -> OuterStep:
        """`host_offload` in float64."""
        return replace(
            self,
            images=self.images.double(),
            targets=self.targets.double(),
            real=self.real.double(),
            real_targets=self.real_targets.double(),
            parameters={name: value.double() for name, value in self.parameters.items()},
        ).host_offload()

    def naive(self) -> OuterStep:
        """The textbook implementation: the whole training in one graph, eagerly."""

        def gradient() -> Tensor:
            images = self.images.clone().requires_grad_()
            parameters = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
            velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
            for batch, target in zip(images, self.targets, strict=True):
                loss = soft_cross_entropy(self.network.logits(parameters, batch), target)
                slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
                velocity = {
                    name: MOMENTUM * velocity[name] + slope for name, slope in zip(parameters, slopes, strict=True)
                }
                parameters = {name: parameters[name] - RATE * velocity[name] for name in parameters}
            outer = soft_cross_entropy(self.network.logits(parameters, self.real), self.real_targets)
            return torch.autograd.grad(outer, images)[0]

        return gradient

    def host_offload(self) -> OuterStep:
        """Forward without a graph, with the weights copied to the host; backward one step at a time, eagerly."""

        def loss(parameters: Parameters, batch: Tensor, target: Tensor) -> Tensor:
            return soft_cross_entropy(self.network.logits(parameters, batch), target)

        def leaves(parameters: Parameters) -> Parameters:
            return {name: value.to(self.images.device).requires_grad_() for name, value in parameters.items()}

        def gradient() -> Tensor:
            parameters = {name: value.clone() for name, value in self.parameters.items()}
            velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}
            host: list[Parameters] = []
            for batch, target in zip(self.images, self.targets, strict=True):
                host.append({name: value.detach().to("cpu", copy=True) for name, value in parameters.items()})
                parameters = leaves(parameters)
                slopes = torch.autograd.grad(loss(parameters, batch, target), list(parameters.values()))
                velocity = {
                    name: MOMENTUM * velocity[name] + slope for name, slope in zip(parameters, slopes, strict=True)
                }
                parameters = {name: parameters[name].detach() - RATE * velocity[name] for name in parameters}
            parameters = leaves(parameters)
            outer = loss(parameters, self.real, self.real_targets)
            lam = list(torch.autograd.grad(outer, list(parameters.values())))
            mu = [torch.zeros_like(value) for value in lam]
            for_images = torch.empty_like(self.images)
            for t in reversed(range(len(self.images))):
                mu = [m - RATE * value for m, value in zip(mu, lam, strict=True)]
                parameters, batch = leaves(host[t]), self.images[t].clone().requires_grad_()
                values = list(parameters.values())
                slopes = torch.autograd.grad(loss(parameters, batch, self.targets[t]), values, create_graph=True)
                *products, for_images[t] = torch.autograd.grad(slopes, [*values, batch], mu)
                lam = [value + product for value, product in zip(lam, products, strict=True)]
                mu = [MOMENTUM * m for m in mu]
            return for_images

        return gradient

    def ours(self, dtype: torch.dtype | None = None) -> OuterStep:
        """`trainer.objectives.inner.unroll` with the step that `recall-trainer` chooses for this network and device."""
        step = inner_step(replace(self.network, convolution_dtype=dtype), self.images.device)
        rate, momentum = (torch.tensor(value, device=self.images.device) for value in (RATE, MOMENTUM))

        def gradient() -> Tensor:
            images = self.images.clone().requires_grad_()
            parameters = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
            velocity = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
            trained = unroll(step, TrainState(parameters, velocity, rate, momentum), images, self.targets).parameters
            return torch.autograd.grad(step.evaluate(trained, self.real, self.real_targets), images)[0]

        return gradient

    def convolution_flops(self) -> float:
        """Operations of the convolutions of one outer step: 3 per block and step forward, 8 backward.

        The first block needs fewer: no gradient for its input in the forward step, and no direction of the images.
        """
        steps, batch, channels = self.images.shape[:3]
        assert isinstance(self.network, ConvNet)
        filters, (height, width) = self.network.filters, self.network.padded_size()
        total = 0.0
        for block in range(self.network.depth):
            pixels = (height >> block) * (width >> block)
            one = 2 * 9 * pixels * filters * (filters if block else channels)
            training, reverse = (3, 8) if block else (2, 5)
            total += one * (steps * batch * (training + reverse) + REAL * training)
        return total

    def convolution_rate(self, dtype: torch.dtype) -> float:
        """Operations per second of one convolution of the second block's size, the best of twenty."""
        assert isinstance(self.network, ConvNet)
        filters, (height, width) = self.network.filters, self.network.padded_size()
        shape = self.images.shape[1], filters, height // 2, width // 2
        images = torch.randn(shape, device=self.images.device).to(dtype, memory_format=torch.channels_last)
        weight = torch.randn(filters, filters, 3, 3, device=self.images.device)
        weight = weight.to(dtype, memory_format=torch.channels_last)
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            torch.nn.functional.conv2d(images, weight, padding=1)
            _finish(self.images.device)
            seconds.append(time.perf_counter() - started)
        return 2 * 9 * filters * images.numel() / min(seconds)


class OwnProcess:
    """A side of `Problem` in a process without this project's allocator setting; a call returns its gradient."""

    def __init__(self, side: str, size: Size) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        arguments = (theirs, side, size, torch.get_num_threads())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self) -> Tensor:
        self._ours.send_bytes(b"go")
        return torch.frombuffer(bytearray(self._ours.recv_bytes()), dtype=torch.float64)


def _serve(connection: Connection, side: str, size: Size, threads: int) -> None:
    torch.set_num_threads(threads)
    step = getattr(Problem.draw(*size), side)()
    with contextlib.suppress(EOFError):
        while connection.recv_bytes():
            connection.send_bytes(step().cpu().double().numpy().tobytes())


def time_in_turns(sides: dict[str, OuterStep], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each side, measured in turns, so that a drift in the machine's speed affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            _finish(device)
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = command_parser(__doc__, "threads", "quick")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images and the initial weights")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.quick:
        options.filters, options.steps = min(options.filters, 16), min(options.steps, 8)
    device = torch.device(options.device)
    size = (options.filters, options.steps, options.batch, device, options.seed)
    sides: dict[str, OuterStep] = {name: OwnProcess(name, size) for name in ("naive", "host_offload")}
    keep_freed_memory()
    problem = Problem.draw(*size)
    sides["ours"] = problem.ours()
    if device.type == "cuda" or processor_has_bfloat16():
        sides["ours_bfloat16"] = problem.ours(torch.bfloat16)
    reference = OwnProcess("reference", size)().flatten()
    gradients = {name: side() for name, side in sides.items()}  # also warms up: compilation is not timed
    seconds = time_in_turns(sides, 3 if options.quick else 7, device)
    flat = {name: value.flatten().double().cpu() for name, value in gradients.items()}
    cosines = {name: float(torch.cosine_similarity(flat[name], reference, dim=0)) for name in sides}
    for name in sides:
        sys.stdout.write(
            f"{name:14} {1 / seconds[name]:7.3f} outer steps/s, {seconds['naive'] / seconds[name]:5.2f}x naive, "
            f"{seconds['host_offload'] / seconds[name]:5.2f}x host_offload, "
            f"cosine of its gradient with float64 {cosines[name]:.6f}\n"
        )
    figures = {
        f"speedup_over_{other}{name.removeprefix('ours')}": seconds[other] / seconds[name]
        for name in sides
        if name in OURS
        for other in ("naive", "host_offload")
    } | {
        "share_of_convolution_rate": {
            name: problem.convolution_flops() / seconds[name] / problem.convolution_rate(dtype)
            for name, dtype in OURS.items()
            if name in sides
        },
        "outer_steps_per_second": {name: 1 / value for name, value in seconds.items()},
        "gradient_cosine_with_float64": cosines,
        "filters": options.filters,
        "steps": options.steps,
        "batch": options.batch,
    }
    print_figures({name: _rounded(value) for name, value in figures.items()}, device)


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
