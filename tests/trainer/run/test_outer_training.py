"""Single outer steps: how rates fall, what a running average keeps, and going on from saved tensors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.core.memory import AbstractMemory, StoredItems
from trainer.methods.specs.outer import Adam, Outer, Sgd
from trainer.objectives.base import AbstractObjective, State
from trainer.objectives.components import Components
from trainer.objectives.queries import LabelQueries
from trainer.objectives.real_data import RealData
from trainer.objectives.sampler import Sampler
from trainer.run.outer_training import OuterTraining


class NearReal(AbstractObjective):
    """The distance of what two classes recall from random real items; its state counts the steps."""

    def begin(self, generator: torch.Generator) -> State:
        return {"count": torch.tensor(0)}

    def loss(self, sampler: Sampler, state: State, generator: torch.Generator) -> Tensor:
        batch = sampler.draw_all(1, generator)
        return (batch.recalled.items.flatten(0, 1) - batch.items).square().sum()

    def advance(self, sampler: Sampler, state: State, generator: torch.Generator) -> State:
        return {"count": state["count"] + 1}


DATA = RealData.of(torch.arange(12.0).view(6, 2), torch.arange(6) % 2, 2)


def training(outer: Outer, memory: AbstractMemory | None = None) -> OuterTraining:
    components = Components.of(memory or StoredItems(torch.zeros(2, 1, 2)), LabelQueries(), NearReal())
    return OuterTraining(components, outer, torch.Generator().manual_seed(0))


def items(trained: OuterTraining) -> Tensor:
    return trained.leaves["items"].detach().clone()


def test_rates_follow_their_decay() -> None:
    cosine, settling = training(Outer(rate=0.1, decay="cosine")), training(Outer(rate=0.1, settle=2))
    assert [round(cosine.step(DATA, done=done).rate, 4) for done in (0.0, 0.5, 1.0)] == [0.1, 0.0525, 0.005]
    assert [settling.step(DATA).rate for _ in range(4)] == [0.1 / (1 + steps / 2) for steps in range(4)]


def test_the_running_average_is_kept_and_held_only_within_the_block() -> None:
    trained = training(Outer(rate=0.1, average=0.75))
    expected = items(trained)
    for _ in range(5):
        trained.step(DATA)
        expected = expected + 0.25 * (items(trained) - expected)
    last = items(trained)
    torch.testing.assert_close(trained.kept()["items"], expected)
    with trained.holding_what_is_kept():
        assert torch.equal(items(trained), trained.kept()["items"])
    assert torch.equal(items(trained), last)
    assert not torch.equal(last, trained.kept()["items"])


@pytest.mark.parametrize("optimiser", [Adam(), Sgd(), Sgd(momentum=0.0)])
def test_steps_resume_from_saved_tensors_to_the_same_bits(optimiser: Adam | Sgd) -> None:
    outer = Outer(optimiser=optimiser, rate=0.1, settle=3, average=0.5)
    whole, stopped = training(outer), training(outer)
    for _ in range(5):
        whole.step(DATA)
    for _ in range(2):
        stopped.step(DATA)
    saved = {name: value.clone() for name, value in stopped.tensors().items()}
    resumed = training(outer)
    resumed.restore(saved)
    resumed.generator.set_state(stopped.generator.get_state())
    for _ in range(3):
        resumed.step(DATA)
    assert {name: value.tolist() for name, value in resumed.tensors().items()} == {
        name: value.tolist() for name, value in whole.tensors().items()
    }
    assert int(resumed.state["count"]) == resumed.steps == 5


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    trained = training(Outer(rate=0.1), StoredItems(torch.full((2, 1, 2), torch.inf)))
    with pytest.raises(FloatingPointError, match="the outer loss is nan and .* at outer step 0; .* lower `outer.rate`"):
        trained.step(DATA)
    assert trained.steps == 0
    assert items(trained).isinf().all()
