"""Peak memory of an outer step against the number T of its inner steps.

    python -m benchmarks.unroll_memory [--lengths 20 50 100 200] [--naive-lengths 5 10 20] [--filters 64] [--batch 30]
                                       [--device cuda] [--threads 2]

The problem is that of `benchmarks.unroll`. Ours keeps the weights of every step, and the images of all steps: the
original, the copy that requires gradients, and the gradient. `beside` is the rest of the peak, which should not grow
with T. The naive unroll keeps every activation, so its trainings are shorter. Each figure is from its own process: on
the CPU the growth of its peak resident size, on CUDA the peak of allocated memory. The last line is JSON.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.command import command_parser, print_figures
from benchmarks.instant_folder import peak_kibibytes
from benchmarks.unroll import Problem, Size

MEBIBYTE = 2**20


def peak(side: str, size: Size, threads: int) -> dict[str, float]:
    """Peak MiB of one outer step in this process, and the part of it that grows with T by design."""
    torch.set_num_threads(threads)
    device = size[3]
    before = held(device)
    problem = Problem.draw(*size)
    getattr(problem, side)()()
    weights = sum(value.nbytes for value in problem.parameters.values())
    return {
        "peak": (held(device) - before) / MEBIBYTE,
        "weights": (len(problem.images) + 1) * weights / MEBIBYTE,
        "images": 3 * problem.images.nbytes / MEBIBYTE,
    }


def held(device: torch.device) -> int:
    """Peak memory of this process so far, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return 1024 * peak_kibibytes(os.getpid())


def in_own_process(side: str, size: Size, threads: int) -> dict[str, float]:
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak, side, size, threads).result()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--naive-lengths", type=int, nargs="*", default=[5, 10, 20])
    parser.add_argument("--filters", type=int, default=64)
    parser.add_argument("--batch", type=int, default=30)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = []
    for side, lengths in (("ours", options.lengths), ("naive", options.naive_lengths)):
        for steps in lengths:
            found = in_own_process(side, (options.filters, steps, options.batch, device, 0), options.threads)
            if side == "ours":
                found["beside"] = found["peak"] - found["weights"] - found["images"]
            rows.append({"side": side, "steps": steps} | {name: round(value, 1) for name, value in found.items()})
            shown = found if side == "ours" else {"peak": found["peak"]}
            print(f"{side:5} T = {steps:3}, MiB: " + ", ".join(f"{name} {value:.1f}" for name, value in shown.items()))
    print_figures({"mebibytes": rows}, device)


if __name__ == "__main__":
    main()
