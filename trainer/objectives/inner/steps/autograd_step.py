"""The inner step of any network and its reverse, as two pure functions that are each compiled whole.

Both are derived from the network's logits with `torch.func`, so that the reverse contains forward, inner gradient and
second derivative in one graph; differentiating twice through an already compiled module is what torch cannot do.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from recall_server.core.networks import AbstractNetwork, Parameters
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState, soft_cross_entropy

# Bits of a vector, by torch's names of instruction sets. Torch's cache of compiled code tells settings apart and not
# instruction sets: with ATEN_CPU_CAPABILITY=avx2, code that was made for AVX-512 gave NaN.
VECTOR_BITS: Mapping[str, int] = {"AVX2": 256, "AVX512": 512}

logger = logging.getLogger(__name__)


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: a compiler, and on the CPU Python's headers and a processor with AVX2.

    Without AVX2, torch generates vector code that does not compile.
    """
    if device.type == "cpu":
        compilers, headers = [os.environ.get("CXX") or "g++"], Path(sysconfig.get_path("include")) / "Python.h"
    else:  # triton builds its launcher in C
        compilers, headers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"], None
    missing = "" if any(map(shutil.which, compilers)) else f"no C++ compiler found ({' or '.join(compilers)})"
    if headers is not None and not headers.is_file():
        missing = missing or "Python's headers are not installed"
    x86 = device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if x86 and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        missing = missing or "torch.compile needs AVX2"
    if missing:
        logger.warning("%s: training steps run eagerly, at about half the speed", missing)
    return not missing


@final
@dataclass(frozen=True)
class DifferentiatedStep(AbstractInnerStep):
    """One step on any network; `compiled` where torch.compile is to be used. Compiling takes half a minute."""

    network: AbstractNetwork
    compiled: bool = True
    _functions: tuple[Callable[..., Any], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        functions: tuple[Callable[..., Any], ...] = (self._forward, self._reverse, self._loss)
        object.__setattr__(self, "_functions", tuple(self._compile(function) for function in functions))

    def forward(self, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        after: TrainState = self._functions[0](state, images, targets)
        return after

    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        products: tuple[Tensor, Tensor, Parameters] = self._functions[1](parameters, images, targets, mu)
        return products

    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self._functions[2](parameters, images, targets)
        return loss

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.compiled:
            return function
        capability = torch.backends.cpu.get_cpu_capability()
        vectors: dict[str, Any] = {"cpp.simdlen": VECTOR_BITS[capability]} if capability in VECTOR_BITS else {}
        return torch.compile(function, fullgraph=True, dynamic=False, options=vectors)

    def _loss(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        return soft_cross_entropy(self.network.logits(parameters, images), targets)

    def _forward(self, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        gradient = torch.func.grad(self._loss)(state.parameters, images, targets)
        velocity = {name: state.momentum * state.velocity[name] + gradient[name] for name in state.parameters}
        return state.at(
            {name: state.parameters[name] - state.rate * velocity[name] for name in state.parameters}, velocity
        )

    def _reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        def alignment(images: Tensor, targets: Tensor, parameters: Parameters) -> Tensor:
            gradient = torch.func.grad(self._loss)(parameters, images, targets)
            return torch.stack([(gradient[name] * mu[name]).sum() for name in mu]).sum()

        products: tuple[Tensor, Tensor, Parameters] = torch.func.grad(alignment, argnums=(0, 1, 2))(
            images, targets, parameters
        )
        return products
