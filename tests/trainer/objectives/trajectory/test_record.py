"""Experts are trained by SGD as torch has it or by GSAM as its formulas say; they resume, and are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from recall_server.core.networks import ConvNet, Parameters
from tests.tolerances import assert_close
from trainer.objectives.inner.packing import Packing
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.trajectory.experts import Experts, Origin
from trainer.objectives.trajectory.record import ExpertRecorder, ExpertTraining

NETWORK = ConvNet(channels=1, height=4, width=4, classes=3, filters=2, depth=2)
TERMS = 4 * 10 * 4 * 4 * 9  # epochs, minibatches, pixels, and products of a convolution
CPU = torch.device("cpu")
HERE = Origin("convnet:filters=2,depth=2", "digits", "a" * 64, "standardise")
ITEMS = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 3


def recorder(**changed: object) -> ExpertRecorder:
    training = ExpertTraining(**({"epochs": 3, "items": 10, "batch": 5, "rate": 0.1} | changed))  # type: ignore[arg-type]
    return ExpertRecorder(DifferentiatedStep(NETWORK, compiled=False), ITEMS, LABELS, HERE, training)


def load(folder: Path, origin: Origin = HERE, epochs: int = 3) -> Experts:
    return Experts.load(folder, NETWORK, origin, epochs)


def epochs_of(folder: Path, count: int = 3) -> list[Parameters]:
    """The parameters of the first expert before each epoch."""
    experts = load(folder).first(1)
    return [experts.draw(1, span, torch.Generator(), CPU).target for span in range(count + 1)]


def naive(start: Parameters, order: list[Tensor], radius: float, share: float) -> Parameters:
    """The formulas of GSAM over flat vectors; with a radius of 0 plain gradient descent."""
    packing = Packing(NETWORK)
    weights = packing.packed(start)

    def gradient(at: Tensor, index: Tensor) -> Tensor:
        at = at.clone().requires_grad_()
        loss = cross_entropy(NETWORK.logits(packing.unpacked(at), ITEMS[index]), LABELS[index])
        return torch.autograd.grad(loss, at)[0]

    for index in order:
        here = gradient(weights, index)
        direction = here
        if radius:
            there = gradient(weights + radius * weights**2 * here / (weights * here).norm(), index)
            orthogonal = here - (here @ there) / (there @ there) * there
            direction = there - share * orthogonal
        weights = weights - 0.1 * direction
    return packing.unpacked(weights)


@pytest.mark.parametrize("radius", [0.0, 0.5])
def test_an_epoch_is_gradient_descent_on_some_items_once(tmp_path: Path, radius: float) -> None:
    made = recorder(radius=radius, decomposed=0.4)
    made.record(tmp_path, 1)
    states = epochs_of(tmp_path)
    for epoch in (1, 2, 3):
        order = torch.randperm(20, generator=made._generator(0, epoch))[:10].split(5)
        expected = naive(states[epoch - 1], list(order), radius, 0.4)
        assert_close(states[epoch], expected, terms=TERMS)
    assert_close(states[0], NETWORK.initialise(made._generator(0, 0)), terms=1)


def test_experts_differ_and_the_same_seed_records_the_same_bytes(tmp_path: Path) -> None:
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        recorder(seed=seed).record(tmp_path / folder, 2)
    files = {path: path.read_bytes() for path in sorted(tmp_path.glob("*/*.safetensors"))}
    assert [path.name for path in files] == ["expert-000.safetensors", "expert-001.safetensors"] * 3
    again, one, other = list(files.values())[:2], list(files.values())[2:4], list(files.values())[4:]
    assert one == again
    assert len({*one, *other}) == 4


def test_a_stopped_recording_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(number: int, epochs: int) -> None:
        if (number, epochs) == (1, 2):
            raise Stopped

    with pytest.raises(Stopped):
        recorder().record(tmp_path / "stopped", 3, stop)
    assert len(load(tmp_path / "stopped").files) == 1, "an expert that is not complete does not count"
    seen: list[tuple[int, int]] = []
    recorder().record(tmp_path / "stopped", 3, lambda number, epochs: seen.append((number, epochs)))
    assert seen == [(1, 3), (2, 1), (2, 2), (2, 3)]
    recorder().record(tmp_path / "whole", 3)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "stopped" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "stopped").iterdir())) == 3


def test_a_segment_begins_and_ends_with_one_experts_epochs(tmp_path: Path) -> None:
    recorder().record(tmp_path, 2)
    experts, packing = load(tmp_path), Packing(NETWORK)
    drawn = [experts.draw(2, 2, torch.Generator().manual_seed(seed), CPU) for seed in range(20)]
    seen = {tuple(packing.packed(each).sum().item() for each in segment) for segment in drawn}
    assert len(seen) == 4, "two experts, two starts"
    assert len(experts.first(1).files) == 1


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"network": "resnet"}, "of the network convnet:filters=2,depth=2, not resnet; use another folder, or record"),
        ({"dataset": "mnist"}, "of the data set digits, not mnist"),
        ({"preprocessing": "zca"}, "of the preprocessing standardise, not zca"),
        ({"training_sha256": "b" * 64}, "of other training pictures; use the --seed of their recording"),
    ],
)
def test_experts_of_something_else_are_refused(tmp_path: Path, changed: dict[str, str], sentence: str) -> None:
    recorder().record(tmp_path, 1)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path, replace(HERE, **changed))
    with pytest.raises(ValueError, match=sentence):
        replace(recorder(), origin=replace(HERE, **changed)).record(tmp_path, 1)


def test_experts_that_are_missing_too_short_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="there are no experts in .*; record some with `recall-trainer record-experts`"
    ):
        load(tmp_path)
    recorder().record(tmp_path, 1)
    with pytest.raises(ValueError, match="has 3 epochs, but 5 are looked at; lower objective.latest_start"):
        load(tmp_path, epochs=5)
    with pytest.raises(ValueError, match="trained in another way; record into another folder"):
        recorder(rate=0.2).record(tmp_path, 1)
    (tmp_path / "expert-001.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"expert-001\.safetensors cannot be read as an expert"):
        load(tmp_path)
