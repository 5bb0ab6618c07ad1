"""Outer steps per second of matching objectives: this project's, beside the same written plainly in torch, in one run.

    python -m benchmarks.matching [--filters 128] [--real 256] [--rows 1] [--steps 20] [--repeats 3] [--threads 1]
                                  [--quick]

An outer step is a loss and its gradient for the recalled images, of ten classes in 32x32 colour at a random ConvNet-3:
`gradient` is that of gradient matching (cosine distance, each class alone), `distribution` that of distribution
matching, and `trajectory` that of trajectory matching over `--steps` steps. The plain side is written as the authors'
code is: torch's own layers, and autograd through the graph of a gradient. Both sides have the same images and
parameters, and the run ends with an error where their losses differ by more than float32 explains.

Seconds are of processor time, the least of some repeats that alternate between the sides, so that a busy machine
changes little. --quick: a narrower network and fewer images. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, cross_entropy, group_norm, linear, relu

from benchmarks.command import CPU, command_parser, parse, print_figures
from recall_server.core.memory import Recalled
from recall_server.core.networks import ConvNet, Parameters
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.layer_features import layer_features
from trainer.objectives.inner.steps.select_step import LARGE_PARTS, inner_step
from trainer.objectives.matching.features import DistributionMatching
from trainer.objectives.matching.gradients import GradientMatching
from trainer.objectives.matching.networks import FreshNetworks
from trainer.objectives.sampler import OuterBatch
from trainer.objectives.trajectory.experts import Experts, Segment
from trainer.objectives.trajectory.matching import TrajectoryMatching

CLASSES, RATE = 10, 0.01
CLOSE = 1e-3  # of losses, relative: a ReLU may fall to the other side by rounding

Loss = Callable[[Tensor], Tensor]  # of recalled images [CLASSES, rows, 3, 32, 32]


@dataclass(frozen=True)
class Problem:
    """What both sides are given: a network with parameters, where an expert went, and real images of each class."""

    network: ConvNet
    parameters: Parameters
    target: Parameters
    recalled: Tensor  # [CLASSES, rows, 3, 32, 32]
    real: Tensor  # [CLASSES, n, 3, 32, 32]
    steps: int

    @classmethod
    def draw(cls, filters: int, rows: int, real: int, steps: int) -> Problem:
        generator = torch.Generator().manual_seed(0)
        network = ConvNet(channels=3, height=32, width=32, classes=CLASSES, filters=filters)
        start, other = (network.initialise(generator) for _ in range(2))
        target = {name: value + 0.1 * other[name] for name, value in start.items()}
        recalled, images = (torch.randn(CLASSES, count, 3, 32, 32, generator=generator) for count in (rows, real))
        return cls(network, start, target, recalled, images, steps)

    def ours(self) -> dict[str, Loss]:
        """The losses of the project's objectives."""
        step, networks = inner_step(self.network, CPU, multiple=LARGE_PARTS), FreshNetworks(self.network)
        count, phi = self.real.shape[1], layer_features(self.network, CPU)
        gradients = GradientMatching(step=step, networks=networks, real_per_class=count)
        features = DistributionMatching(features=phi, networks=networks, real_per_class=count)
        trajectories = TrajectoryMatching(
            step, Momentum(0.0), Experts(self.network, (Path(),), 1), torch.tensor(RATE), self.steps, 1, 1
        )
        segment, generator = Segment(self.parameters, self.target), torch.Generator().manual_seed(0)
        return {
            "gradient": lambda recalled: gradients.compare(self._batch(recalled), self.parameters, generator),
            "distribution": lambda recalled: features.compare(self._batch(recalled), self.parameters, generator),
            "trajectory": lambda recalled: trajectories.compare(self._batch(recalled).recalled, segment, generator),
        }

    def plain(self) -> dict[str, Loss]:
        """The same losses by torch's layers and autograd."""
        return {
            "gradient": self._plain_gradient,
            "distribution": self._plain_distribution,
            "trajectory": self._plain_trajectory,
        }

    def _batch(self, recalled: Tensor) -> OuterBatch:
        eye = torch.eye(CLASSES)
        targets = eye.repeat_interleave(self.real.shape[1], dim=0)
        return OuterBatch(Recalled(recalled, eye.unsqueeze(1)), self.real.flatten(0, 1), targets)

    def _plain_gradient(self, recalled: Tensor) -> Tensor:
        leaves = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
        total = torch.zeros(())
        for label in range(CLASSES):
            found = [
                torch.autograd.grad(
                    cross_entropy(plain_logits(leaves, images), torch.full((len(images),), label)),
                    list(leaves.values()),
                    create_graph=graph,
                )
                for images, graph in ((self.real[label], False), (recalled[label], True))
            ]
            for real, mine in zip(*found, strict=True):
                if real.ndim > 1:
                    one, other = real.flatten(1), mine.flatten(1)
                    products = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1) + 1e-6)
                    total = total + (1 - products).sum()
        return total

    def _plain_distribution(self, recalled: Tensor) -> Tensor:
        total = torch.zeros(())
        for label in range(CLASSES):
            with torch.no_grad():
                real = plain_features(self.parameters, self.real[label]).mean(dim=0)
            mine = plain_features(self.parameters, recalled[label]).mean(dim=0)
            total = total + (real - mine).square().sum()
        return total

    def _plain_trajectory(self, recalled: Tensor) -> Tensor:
        weights = {name: value.clone().requires_grad_() for name, value in self.parameters.items()}
        labels = torch.arange(CLASSES).repeat_interleave(recalled.shape[1])
        for _ in range(self.steps):
            loss = cross_entropy(plain_logits(weights, recalled.flatten(0, 1)), labels)
            found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {name: value - RATE * g for (name, value), g in zip(weights.items(), found, strict=True)}
        left, whole = (
            torch.stack([(each[name] - self.target[name]).square().sum() for name in each]).sum()
            for each in (weights, self.parameters)
        )
        return left / whole


def plain_features(parameters: Parameters, images: Tensor) -> Tensor:
    """The inputs of the last layer, by torch's own layers; nothing is padded at 32 pixels."""
    block = 0
    while f"block{block}.convolution.weight" in parameters:
        weight, bias, scale, shift = (
            parameters[f"block{block}.{part}"]
            for part in ("convolution.weight", "convolution.bias", "norm.scale", "norm.shift")
        )
        images = avg_pool2d(relu(group_norm(conv2d(images, weight, bias, padding=1), len(scale), scale, shift)), 2)
        block += 1
    return images.flatten(1)


def plain_logits(parameters: Parameters, images: Tensor) -> Tensor:
    features = plain_features(parameters, images)
    return linear(features, parameters["classifier.weight"], parameters["classifier.bias"])


def outer_step(loss: Loss, recalled: Tensor) -> tuple[float, float]:
    """Seconds of processor time of a loss with its gradient, and the loss."""
    leaf = recalled.clone().requires_grad_()
    began = time.process_time()
    found = loss(leaf)
    torch.autograd.grad(found, leaf)
    return time.process_time() - began, float(found.detach())


def measure(problem: Problem, repeats: int) -> dict[str, dict[str, float]]:
    """Outer steps a second of both sides and their ratio, for each objective."""
    ours, plain, figures = problem.ours(), problem.plain(), {}
    for name in ours:
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        losses = {}
        for repeat in range(repeats + 1):  # the first one warms up
            for side, each in (("ours", ours[name]), ("plain", plain[name])):
                took, losses[side] = outer_step(each, problem.recalled)
                seconds[side] += [took] if repeat else []
        if abs(losses["ours"] - losses["plain"]) > CLOSE * abs(losses["plain"]):
            raise SystemExit(f"the losses of {name} differ: {losses}")
        rates = {side: 1 / min(values) for side, values in seconds.items()}
        figures[name] = {side: round(rate, 3) for side, rate in rates.items()}
        figures[name]["times_plain"] = round(rates["ours"] / rates["plain"], 2)
        print(f"{name}: {figures[name]}", flush=True)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--filters", type=int, default=128)
    parser.add_argument("--real", type=int, default=256, help="real images of each class")
    parser.add_argument("--rows", type=int, default=1, help="recalled images of each class")
    parser.add_argument("--steps", type=int, default=20, help="steps of a trajectory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parse(parser, arguments)
    filters, real, steps = (32, 8, 5) if options.quick else (options.filters, options.real, options.steps)
    figures = measure(Problem.draw(filters, options.rows, real, steps), options.repeats)
    settings = {"filters": filters, "real": real, "rows": options.rows, "steps": steps, "threads": options.threads}
    print_figures({"objectives": figures} | settings)


if __name__ == "__main__":
    main()
