"""The inner step of a network with one hidden layer and its reverse, written out by hand for the CPU.

The reverse is forward over reverse (Pearlmutter, 1994), as in `trainer/explicit_step.py`: every tensor has a partner,
`_dot`, its derivative along the direction mu of the parameters. With few inputs the arithmetic is so little that what
counts is the number of operations, and nothing has to be compiled first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from recall_server.networks import MLP, Parameters
from trainer.inner_step import AbstractInnerStep, gradient_along, soft_cross_entropy

HIDDEN_WEIGHT, HIDDEN_BIAS = "layer0.weight", "layer0.bias"
WEIGHT, BIAS = "classifier.weight", "classifier.bias"


@final
@dataclass(frozen=True)
class DenseStep(AbstractInnerStep):
    """One step on an MLP of depth 1. Raises ValueError for a deeper one."""

    network: MLP

    def __post_init__(self) -> None:
        if self.network.depth != 1:
            raise ValueError(f"this step is for one hidden layer, not for {self.network.depth}")

    def forward(
        self,
        parameters: Parameters,
        velocity: Parameters,
        images: Tensor,
        targets: Tensor,
        *,
        rate: Tensor,
        momentum: Tensor,
    ) -> tuple[Parameters, Parameters]:
        with torch.no_grad():
            gradient = _gradient(parameters, images.flatten(1), targets)
            alpha, beta = float(rate), float(momentum)
            velocity = {name: torch.add(gradient[name], velocity[name], alpha=beta) for name in parameters}
            return {name: torch.sub(parameters[name], velocity[name], alpha=alpha) for name in parameters}, velocity

    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        with torch.no_grad():
            x = images.flatten(1)
            weight, weight_dot = parameters[WEIGHT], mu[WEIGHT]
            before = torch.addmm(parameters[HIDDEN_BIAS], x, parameters[HIDDEN_WEIGHT].T)
            hidden = before.relu()
            active = (before > 0).to(x.dtype)
            hidden_dot = torch.addmm(mu[HIDDEN_BIAS], x, mu[HIDDEN_WEIGHT].T).mul_(active)

            logits = torch.addmm(parameters[BIAS], hidden, weight.T)
            logits_dot = torch.addmm(mu[BIAS], hidden_dot, weight.T).addmm_(hidden, weight_dot.T)
            gl, gl_dot, for_targets = gradient_along(logits, logits_dot, targets, len(images))

            gh = (gl @ weight).mul_(active)
            gh_dot = torch.addmm(gl @ weight_dot, gl_dot, weight).mul_(active)
            product = {
                HIDDEN_WEIGHT: gh_dot.T @ x,
                HIDDEN_BIAS: gh_dot.sum(dim=0),
                WEIGHT: torch.addmm(gl_dot.T @ hidden, gl.T, hidden_dot),
                BIAS: gl_dot.sum(dim=0),
            }
            for_images = torch.addmm(gh @ mu[HIDDEN_WEIGHT], gh_dot, parameters[HIDDEN_WEIGHT])
            return for_images.view_as(images), for_targets, product

    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        return soft_cross_entropy(self.network.logits(parameters, images), targets)


def _gradient(parameters: Parameters, x: Tensor, targets: Tensor) -> Parameters:
    """Of the mean soft cross-entropy, for images x [N, d]."""
    hidden = torch.addmm(parameters[HIDDEN_BIAS], x, parameters[HIDDEN_WEIGHT].T).relu_()
    probabilities = torch.addmm(parameters[BIAS], hidden, parameters[WEIGHT].T).softmax(dim=1)
    gl = (probabilities * targets.sum(dim=1, keepdim=True) - targets).div_(len(x))
    gh = (gl @ parameters[WEIGHT]).mul_(hidden > 0)
    return {
        HIDDEN_WEIGHT: gh.T @ x,
        HIDDEN_BIAS: gh.sum(dim=0),
        WEIGHT: gl.T @ hidden,
        BIAS: gl.sum(dim=0),
    }
