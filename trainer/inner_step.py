"""One step of inner training and its reverse, as two pure functions that are each compiled whole.

Both are written with `torch.func`, so that the reverse contains forward, inner gradient and second derivative in one
graph; differentiating twice through an already compiled module is what torch cannot do.
"""

from __future__ import annotations

import logging
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from recall_server.networks import AbstractNetwork, Parameters

logger = logging.getLogger(__name__)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of [N, k] logits to [N, k] target distributions."""
    return -(targets * log_softmax(logits, dim=1)).sum(dim=1).mean()


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs: the compiler that it calls, and on the CPU Python's headers."""
    if device.type == "cpu":
        compilers, headers = [os.environ.get("CXX") or "g++"], Path(sysconfig.get_path("include")) / "Python.h"
    else:  # triton builds its launcher in C
        compilers, headers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"], None
    missing = "" if any(map(shutil.which, compilers)) else f"no C++ compiler found ({' or '.join(compilers)})"
    if headers is not None and not headers.is_file():
        missing = missing or "Python's headers are not installed"
    if missing:
        logger.warning("%s: the unroll runs eagerly, at about half the speed", missing)
    return not missing


@dataclass(frozen=True)
class InnerStep:
    """One step of SGD with momentum on a network, and the reverse of that step.

    forward(parameters, velocity, images, targets, rate=, momentum=) -> (parameters', velocity')
    reverse(parameters, images, targets, mu) -> (dg/dimages^T mu, dg/dtargets^T mu, dg/dparameters^T mu)

    with g the gradient of the loss for the parameters. `evaluate` is the loss itself, once differentiable.
    """

    network: AbstractNetwork
    compiled: bool = True
    forward: Callable[..., tuple[Parameters, Parameters]] = field(init=False, repr=False, compare=False)
    reverse: Callable[..., tuple[Tensor, Tensor, Parameters]] = field(init=False, repr=False, compare=False)
    evaluate: Callable[..., Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, function in (("forward", self._forward), ("reverse", self._reverse), ("evaluate", self.loss)):
            object.__setattr__(self, name, self._compile(function))

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=True, dynamic=False) if self.compiled else function

    def loss(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        """The inner loss: mean soft cross-entropy of the network's logits."""
        return soft_cross_entropy(self.network.logits(parameters, images), targets)

    def _forward(
        self,
        parameters: Parameters,
        velocity: Parameters,
        images: Tensor,
        targets: Tensor,
        *,
        rate: Tensor,
        momentum: Tensor,
    ) -> tuple[Parameters, Parameters]:
        gradient = torch.func.grad(self.loss)(parameters, images, targets)
        velocity = {name: momentum * velocity[name] + gradient[name] for name in parameters}
        return {name: parameters[name] - rate * velocity[name] for name in parameters}, velocity

    def _reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        def alignment(images: Tensor, targets: Tensor, parameters: Parameters) -> Tensor:
            gradient = torch.func.grad(self.loss)(parameters, images, targets)
            return torch.stack([(gradient[name] * mu[name]).sum() for name in mu]).sum()

        products: tuple[Tensor, Tensor, Parameters] = torch.func.grad(alignment, argnums=(0, 1, 2))(
            images, targets, parameters
        )
        return products
