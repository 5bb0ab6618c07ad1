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
from recall_server.core.preprocessing import Standardise
from trainer.methods.specs.objectives.unrolled import InnerSgd, PerformanceMatchingSpec, UnrolledSpec
from trainer.methods.specs.problem import Problem
from trainer.objectives.base import AbstractObjective
from trainer.objectives.inner import narrow_training
from trainer.objectives.sampler import Sampler
from trainer.streams.learners.construction import ArrivedData
from trainer.streams.methods import StreamMethod, compose_stream
from trainer.streams.sources.task import CPU, TaskHeader

HEADER = TaskHeader("digits", tuple(map(str, range(10))), (1, 28, 28))
ROWS = {"rotations": 13, "permutations": 19}  # as many as fit in a twentieth of the paper's buffer
NATIVE = narrow_training.native_dense
SAMPLES = {"paper": 110, "window": 40}  # real pictures in the outer loss


def pictures(method: StreamMethod, problem: Problem) -> AbstractObjective:
    """Training on recalled pictures, which works for any network."""
    fields = {name: value for name, value in method.objective if name in PerformanceMatchingSpec.model_fields}
    del fields["kind"]
    return UnrolledSpec(**fields, optimiser=InnerSgd(momentum=0.9), eager=True).build(problem)


def outer_step(objective: AbstractObjective, sampler: Sampler) -> tuple[float, Tensor]:
    """Seconds of one outer step, and the gradient for the bases."""
    started = time.perf_counter()
    loss = objective.loss(sampler, {}, torch.Generator().manual_seed(1))
    (gradient, _) = torch.autograd.grad(loss, list(sampler.memory.tensors().values()))
    return time.perf_counter() - started, gradient


def measure(method: StreamMethod, stream: str, repeats: int) -> dict[str, float]:
    """Milliseconds of each implementation, measured in turns, and the differences of their gradients."""
    generator = torch.Generator().manual_seed(0)
    problem = Problem(HEADER.dataset(), Standardise(torch.zeros(1), torch.ones(1)), generator, CPU)
    shape = method.shape(problem.dataset)
    memory = method.memory.noise(shape, method.stream.bases, ROWS[stream], "xavier", generator)
    components = method.components(memory, problem)
    labels = torch.randint(10, (SAMPLES[method.name],), generator=generator)
    items = torch.randn(len(labels), *HEADER.image_shape, generator=generator)
    sampler, on_pictures = components.sampler(ArrivedData(items, labels, torch.eye(10))), pictures(method, problem)
    seconds: dict[str, list[float]] = {"pictures": [], "coordinates": [], "native": []}
    gradients: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, values in seconds.items():
            with patch.object(narrow_training, "native_dense", (lambda: None) if name != "native" else NATIVE):
                objective = on_pictures if name == "pictures" else components.objective
                spent, gradients[name] = outer_step(objective, sampler)
            values.append(spent)
    fields = method.flat()
    same = [name for name in seconds if name != "pictures" or fields["objective.window"] == fields["objective.steps"]]
    far = max(float((gradients[name] - gradients["native"]).norm()) for name in same)
    return {name: round(1e3 * min(values), 1) for name, values in seconds.items()} | {
        "gradient_difference": far / float(gradients["native"].norm())
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    parser.add_argument("--repeats", type=int, default=20)
    options = parse(parser, arguments)
    torch.set_num_threads(1)
    found: dict[str, Mapping[str, float]] = {}
    for name in ("paper", "window"):
        for stream in ROWS:
            method = compose_stream(name, stream, ["objective.steps=10", "objective.window=5"] if options.quick else [])
            found[f"{name} {stream}"] = measure(method, stream, 2 if options.quick else options.repeats)
            print(f"{name} {stream}: {found[f'{name} {stream}']}", flush=True)
    print_figures({"milliseconds": found})


if __name__ == "__main__":
    main()
