"""A task's memory takes the outer steps that a plain loop over its minibatches takes, to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.trainer.streams.stream_examples import CONVNET, PLAIN, BarStream, learner
from trainer.methods.specs.problem import Problem
from trainer.objectives.sampler import OuterBatch
from trainer.objectives.unrolled.subspace import SubspaceUnrolled
from trainer.objectives.unrolled.unrolled import Unrolled
from trainer.starts.few_samples import Samples
from trainer.streams.buffer.reservoir import AbstractSamples
from trainer.streams.learners.compress import SEEDS, CompressThenRecall
from trainer.streams.sources.task import CPU

RATE, SETTLE, CLIP, AVERAGE, REPLAYS = 0.05, 3, 0.01, 0.9, 2
ONE_HOT = torch.eye(3)


def memory_of_a_plain_loop(ours: CompressThenRecall) -> dict[str, Tensor]:
    """The paper's figure 2 written out, for the settings above; the start is that of the method."""
    method, task = ours.method, BarStream().task(0)
    assert task is not None
    generator = torch.Generator().manual_seed(SEEDS)
    ours._generator = generator
    shape = method.shape(task.header.dataset())
    problem = Problem(task.header.dataset(), PLAIN, generator, CPU)
    objective = method.objective.build(problem)
    budget, samples = ours.buffer.budget(task.header, method), ours._new_samples(task.header)
    nothing = torch.empty(0, *task.header.image_shape), torch.empty(0, dtype=torch.int64)
    leaves: dict[str, Tensor] = {}
    seen = owed = steps = 0
    for batch in [*task.train.chunks(10), None]:
        images, labels = nothing if batch is None else (PLAIN.to_model(batch.pixels()), batch.labels)
        seen, owed = seen + len(labels), owed + REPLAYS * (batch is not None)
        if seen >= method.stream.start_after and not leaves:
            arrived = replace(problem, samples=with_stored(samples, len(samples), images, labels))
            start = method.start.memory(method.memory, shape, budget, arrived)
            leaves = {name: value.clone().requires_grad_() for name, value in start.tensors().items()}
            average = {name: value.clone() for name, value in start.tensors().items()}
            optimiser = torch.optim.Adam(leaves.values())
        for _ in range(owed if leaves else 0):
            items, of_items = with_stored(samples, method.objective.real_batch // 3 * 3, images, labels)  # type: ignore[attr-defined]
            memory = start.replace(leaves)
            optimiser.zero_grad()
            if isinstance(objective, SubspaceUnrolled):
                loss = objective.score(memory, items, ONE_HOT[of_items], generator)  # type: ignore[arg-type]
            else:
                assert isinstance(objective, Unrolled)
                loss = objective.score(OuterBatch(memory.recall(ONE_HOT), items, ONE_HOT[of_items]), generator)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(leaves.values(), CLIP)
            optimiser.param_groups[0]["lr"] = RATE / (1 + steps / SETTLE)
            optimiser.step()
            steps, owed = steps + 1, owed - 1
            for name, value in average.items():
                value.lerp_(leaves[name].detach(), 1 - AVERAGE)
        samples.offer(images, labels)
    return average


def with_stored(samples: AbstractSamples, count: int, images: Tensor, labels: Tensor) -> Samples:
    stored, of_stored = samples.draw(count)
    return Samples(torch.cat([stored, images]), torch.cat([of_stored, labels]))


@pytest.mark.parametrize("network", ["mlp", "convnet"])
@pytest.mark.parametrize("start", ["principal", "noise"])
def test_a_memory_equals_that_of_a_plain_loop(network: str, start: str) -> None:
    settings = [
        f"start={start}", f"outer.rate={RATE}", f"outer.settle={SETTLE}", f"outer.clip={CLIP}",
        f"outer.average={AVERAGE}", f"outer.steps={REPLAYS}", *(CONVNET if network == "convnet" else []),
    ]  # fmt: skip
    expected = memory_of_a_plain_loop(learner(*settings))
    ours, task = learner(*settings), BarStream().task(0)
    assert task is not None
    ours.begin(task.header)
    for batch in task.train.chunks(10):
        ours.observe(batch)
    ours.finish()
    found = ours.memory(0).tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert ours.seen[0].outer_steps == 6 * REPLAYS
