"""An outer step of compress-then-recall on MNIST streams, by three implementations of the same gradient.

    python -m benchmarks.stream_step [--repeats 20] [--quick]

It measures the paper's method and this project's, on Rotations (24 bases at half resolution) and Permutations (8 at
full). `pictures` trains on recalled pictures with autograd, `coordinates` on their coordinates over the bases with
autograd, and `native` on the coordinates entirely in C++. Figures are milliseconds per outer step, the minimum of
several, measured in turns. The gradients are compared, except that of `pictures` with a window, which differs by
definition. --quick: fewer steps. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.command import command_parser, parse, print_figures
from recall_server.core.memory import AddressedBases
from recall_server.core.networks import build_network
from trainer.objectives.inner.autograd_step import DifferentiatedStep
from trainer.objectives.inner.inner_training import Momentum
from trainer.objectives.inner.kernels import dense
from trainer.objectives.unrolled import Unrolled
from trainer.streams.learners.construction import make_objective
from trainer.streams.learners.objective import AbstractStreamObjective, RecalledUnrolled
from trainer.streams.learners.recipe import StreamMethod, compose_stream
from trainer.streams.learners.starts import noise_memory
from trainer.streams.sources.task import CPU, TaskHeader

HEADER = TaskHeader("digits", tuple(map(str, range(10))), (1, 28, 28))
ROWS = {"rotations": 13, "permutations": 19}  # as many as fit in a twentieth of the paper's buffer
NATIVE = dense.native_dense
SAMPLES = {"paper": 110, "window": 40}  # real pictures in the outer loss


def pictures(recipe: StreamMethod) -> AbstractStreamObjective:
    """Training on recalled pictures, which works for any network."""
    network = build_network(recipe.network, HEADER.image_shape, len(HEADER.classes))
    step = DifferentiatedStep(network, compiled=False)
    return RecalledUnrolled(
        Unrolled(
            step,
            steps=recipe.steps,
            window=recipe.window,
            rate=recipe.rate,
            rows_per_class=recipe.rows_per_class,
            training=Momentum(recipe.momentum),
        )
    )


def outer_step(
    objective: AbstractStreamObjective, memory: AddressedBases, real: tuple[Tensor, Tensor]
) -> tuple[float, Tensor]:
    """Seconds of one outer step, and the gradient for the bases."""
    started = time.perf_counter()
    loss = objective.loss(memory, *real, torch.Generator().manual_seed(1))
    (gradient, _) = torch.autograd.grad(loss, list(memory.tensors().values()))
    return time.perf_counter() - started, gradient


def measure(recipe: StreamMethod, stream: str, repeats: int) -> dict[str, float]:
    """Milliseconds of each implementation, measured in turns, and the differences of their gradients."""
    generator = torch.Generator().manual_seed(0)
    memory = noise_memory(recipe, HEADER, ROWS[stream], generator)
    memory = memory.replace({name: value.requires_grad_() for name, value in memory.tensors().items()})
    count = SAMPLES[recipe.name]
    labels = torch.randint(10, (count,), generator=generator)
    real = torch.randn(count, *HEADER.image_shape, generator=generator), torch.eye(10)[labels]
    narrow = make_objective(recipe, HEADER, CPU)
    seconds: dict[str, list[float]] = {"pictures": [], "coordinates": [], "native": []}
    gradients: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, values in seconds.items():
            with patch.object(dense, "native_dense", (lambda: None) if name != "native" else NATIVE):
                spent, gradients[name] = outer_step(pictures(recipe) if name == "pictures" else narrow, memory, real)
            values.append(spent)
    same = [name for name in seconds if name != "pictures" or recipe.window == recipe.steps]
    far = max(float((gradients[name] - gradients["native"]).norm()) for name in same)
    return {name: round(1e3 * min(values), 1) for name, values in seconds.items()} | {
        "gradient_difference": far / float(gradients["native"].norm())
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    options = parse(parser, arguments)
    torch.set_num_threads(1)
    found: dict[str, Mapping[str, float]] = {}
    for method in ("paper", "window"):
        for stream in ROWS:
            recipe = compose_stream(method, stream, ["steps=10", "window=5"] if options.quick else [])
            found[f"{method} {stream}"] = measure(recipe, stream, 2 if options.quick else options.repeats)
            print(f"{method} {stream}: {found[f'{method} {stream}']}", flush=True)
    print_figures({"milliseconds": found})


if __name__ == "__main__":
    main()
