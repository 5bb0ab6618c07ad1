"""Outer steps per second: the compiled unroll against naive unrolling with create_graph, side by side in one run.

    python -m benchmarks.unroll [--quick] [--filters 64] [--steps 20] [--batch 30] [--device cpu] [--threads 2]

An outer step trains a ConvNet-3 for T steps, scores it on 256 images and takes the gradient for all T * B training
images. Both sides use the same network, images and T, and their gradients are compared. Naive unrolling runs as torch
comes, in a process of its own; ours runs as in `recall-trainer`, which keeps freed memory (recall_server/allocator.py).
Naive unrolling with that setting too is the third row. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from recall_server.allocator import keep_freed_memory
from recall_server.networks import AbstractNetwork, ConvNet, Parameters
from trainer.inner_step import InnerStep, can_compile, soft_cross_entropy
from trainer.publish import device_name
from trainer.unroll import unroll

CLASSES, REAL, RATE, MOMENTUM = 10, 256, 0.02, 0.9
OuterStep = Callable[[], Tensor]


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
    def draw(cls, filters: int, steps: int, batch: int, device: torch.device) -> Problem:
        generator = torch.Generator().manual_seed(0)
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

    def naive(self) -> OuterStep:
        """The whole training in one graph, eagerly, as a textbook does it."""

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

    def ours(self, *, compiled: bool, dtype: torch.dtype | None = None) -> OuterStep:
        """`trainer.unroll`, with one compiled step and one compiled reverse step."""
        step = InnerStep(replace(self.network, convolution_dtype=dtype), compiled=compiled)
        rate, momentum = (torch.tensor(value, device=self.images.device) for value in (RATE, MOMENTUM))

        def gradient() -> Tensor:
            images = self.images.clone().requires_grad_()
            velocity = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
            parameters, _ = unroll(step, images, self.targets, self.parameters, velocity, rate=rate, momentum=momentum)
            return torch.autograd.grad(step.evaluate(parameters, self.real, self.real_targets), images)[0]

        return gradient


class OwnProcess:
    """Naive unrolling in a process without our allocator setting; a call returns its gradient."""

    def __init__(self, size: tuple[int, int, int, torch.device]) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        arguments = (theirs, size, torch.get_num_threads())
        self._process = context.Process(target=_serve_naive, args=arguments, daemon=True)
        self._process.start()

    def __call__(self) -> Tensor:
        self._ours.send_bytes(b"go")
        return torch.frombuffer(bytearray(self._ours.recv_bytes()), dtype=torch.float32)


def _serve_naive(connection: Connection, size: tuple[int, int, int, torch.device], threads: int) -> None:
    torch.set_num_threads(threads)
    side = Problem.draw(*size).naive()
    with contextlib.suppress(EOFError):
        while connection.recv_bytes():
            connection.send_bytes(side().cpu().numpy().tobytes())


def time_in_turns(sides: dict[str, OuterStep], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each side, taken in turns, so that a machine whose speed drifts slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and a narrower network")
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.quick:
        options.filters, options.steps = min(options.filters, 16), min(options.steps, 8)
    device = torch.device(options.device)
    compiled = can_compile(device)
    size = (options.filters, options.steps, options.batch, device)
    naive = OwnProcess(size)
    keep_freed_memory()
    problem = Problem.draw(*size)
    sides: dict[str, OuterStep] = {
        "naive": naive,
        "ours": problem.ours(compiled=compiled),
        "naive_with_our_memory": problem.naive(),
    }
    if not options.quick:
        sides["ours_bfloat16"] = problem.ours(compiled=compiled, dtype=torch.bfloat16)
    gradients = {name: side() for name, side in sides.items()}  # also warms up: compilation is not timed
    seconds = time_in_turns(sides, 3 if options.quick else 7, device)
    flat = {name: value.flatten().double().cpu() for name, value in gradients.items()}
    cosines = {name: float(torch.cosine_similarity(flat[name], flat["naive"], dim=0)) for name in sides}
    for name in sides:
        sys.stdout.write(
            f"{name:22} {1 / seconds[name]:7.3f} outer steps/s, {seconds['naive'] / seconds[name]:5.2f}x naive, "
            f"cosine of its gradient with naive {cosines[name]:.6f}\n"
        )
    figures = {
        "speedup_over_naive": seconds["naive"] / seconds["ours"],
        "outer_steps_per_second": {name: 1 / value for name, value in seconds.items()},
        "gradient_cosine_with_naive": cosines,
        "compiled": compiled,
        "filters": options.filters,
        "steps": options.steps,
        "batch": options.batch,
        "device": device_name(device),
    }
    sys.stdout.write(json.dumps({name: _rounded(value) for name, value in figures.items()}) + "\n")


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
