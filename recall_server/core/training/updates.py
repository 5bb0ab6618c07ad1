"""Updates of a tensor by its gradient, in place: SGD with momentum, and Adam (Kingma and Ba, 2015).

They do what torch.optim does, to the bit, and keep the same state under the same names. The first optimiser of
torch.optim in a process imports torch's compiler, which takes nearly as long as to import torch.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

State = dict[str, Tensor]  # of one tensor, from update to update; empty before the first

FIRST_DECAY: Final = 0.9  # of the mean of gradients
SECOND_DECAY: Final = 0.999  # of the mean of their squares
EPSILON: Final = 1e-8


@torch.no_grad()
def sgd(tensor: Tensor, gradient: Tensor, state: State, *, rate: float, momentum: float) -> None:
    """m <- momentum * m + gradient, tensor <- tensor - rate * m; m begins as the first gradient."""
    if momentum:
        if state:
            state["momentum_buffer"].mul_(momentum).add_(gradient)
        else:
            state["momentum_buffer"] = gradient.detach().clone()
        gradient = state["momentum_buffer"]
    tensor.add_(gradient, alpha=-rate)


@torch.no_grad()
def adam(tensor: Tensor, gradient: Tensor, state: State, *, rate: float) -> None:
    """One step of Adam with the usual decays."""
    if not state:
        zeros = torch.zeros_like(tensor)
        state |= {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    state["step"] += 1
    steps = state["step"].item()
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.lerp_(gradient, 1 - FIRST_DECAY)
    square.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
    deviation = (square.sqrt() / (1 - SECOND_DECAY**steps) ** 0.5).add_(EPSILON)
    tensor.addcdiv_(mean, deviation, value=-rate / (1 - FIRST_DECAY**steps))
