"""Updates in place, with torch's own optimisers as oracle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recall_server.core.training.updates import State, adam, sgd

Update = Callable[[Tensor, Tensor, State, float], None]
CASES: dict[str, tuple[Update, Callable[[list[Tensor]], torch.optim.Optimizer]]] = {
    "adam": (lambda *of, rate: adam(*of, rate=rate), torch.optim.Adam),
    "momentum": (
        lambda *of, rate: sgd(*of, rate=rate, momentum=0.9),
        lambda tensors: torch.optim.SGD(tensors, momentum=0.9),
    ),
    "plain": (lambda *of, rate: sgd(*of, rate=rate, momentum=0.0), torch.optim.SGD),
}


@pytest.mark.parametrize("case", CASES)
def test_tensors_and_state_are_those_of_torch_to_the_bit(case: str) -> None:
    update, optimiser_of = CASES[case]
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(3, 5, generator=generator)
    theirs = ours.clone().requires_grad_()
    optimiser, state = optimiser_of([theirs]), State()
    for rate in (0.1, 0.03, 0.01):
        gradient = torch.randn(3, 5, generator=generator)
        optimiser.param_groups[0]["lr"], theirs.grad = rate, gradient
        optimiser.step()
        update(ours, gradient, state, rate=rate)
    assert torch.equal(ours, theirs)
    assert state.keys() == optimiser.state[theirs].keys()
    assert all(torch.equal(state[name], value) for name, value in optimiser.state[theirs].items())
