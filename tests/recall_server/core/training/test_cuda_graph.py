"""Recorded training steps give the same numbers for any minibatch, and training continues where recording fails.

What a recorder promises is tested on the CPU with one that only calls its work again; CUDA graphs where there is CUDA.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import LazyItems
from recall_server.core.networks import AbstractNetwork, NetworkSpec, build_network
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.augmentation import augment
from recall_server.core.training.cuda_graph import WARM_STEPS, CudaGraphStep, CudaRecorder
from recall_server.core.training.descent import MomentumDescent
from recall_server.core.training.lagged_scalars import LAG, read_scalars
from recall_server.core.training.retraining import Retraining
from recall_server.errors import TrainingFailed
from tests.suite.needs import needs_cuda
from tests.tolerances import assert_close

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPECS = ["convnet:filters=8,depth=2", "resnet:shrink=2", "alexnet:shrink=2", "mlp", "linear"]
SHAPE = (1, 32, 32)
SUM = 9 * 512  # products of a resnet's last convolutions, the longest sum
TF32 = torch.float16  # as CUDA's convolutions round: TF32 has the mantissa of float16

Work = Callable[[], Tensor]


class Again:
    """Records work by keeping it: to replay it is to do it again, and what it returns is copied to one place."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.run_steps, self.records, self.replays = fails, 0, 0, 0

    def run(self, work: Work) -> Tensor:
        self.run_steps += 1
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        self.records += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be")
        result = torch.zeros(())

        def replay() -> None:
            self.replays += 1
            result.copy_(work())

        return replay, result


class Never:
    """Runs every step as it is."""

    def run(self, work: Work) -> Tensor:
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("this one never records")


class Forgets(Never):
    """As a CUDA graph does: what was recorded is kept without the work that did it."""

    def record(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        return (lambda: None), work()


def batches(count: int, device: torch.device = CPU) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of 6 random images with soft targets, the last one of 4."""
    generator = torch.Generator().manual_seed(1)
    for number in range(count):
        size = 4 if number == count - 1 else 6
        images = torch.randn(size, *SHAPE, generator=generator)
        yield images.to(device), torch.rand(size, 3, generator=generator).softmax(dim=1).to(device)


def network(spec: str = SPECS[0]) -> AbstractNetwork:
    return build_network(NetworkSpec.parse(spec), SHAPE, 3)


def trained(descent: MomentumDescent, steps: int, device: torch.device = CPU) -> tuple[list[float], Tensor]:
    """All losses, and all parameters as one vector, after steps at a rate that falls and a momentum that rises."""
    losses = []
    for number, (images, targets) in enumerate(batches(steps, device)):
        rate = 0.02 * (1 + math.cos(math.pi * number / steps))
        losses.append(descent.step(images, targets, rate=rate, momentum=0.5 + 0.04 * number))
    parameters = torch.cat([value.flatten() for value in descent.parameters().values()])
    return list(map(float, losses)), parameters.cpu()


def descent(
    spec: str = SPECS[0], *, device: torch.device = CPU, recorder: Again | Never | None = None
) -> MomentumDescent:
    initial = network(spec).initialise(torch.Generator().manual_seed(0))
    return MomentumDescent(
        network(spec), {name: value.to(device) for name, value in initial.items()}, recorder=recorder
    )


@pytest.mark.parametrize("spec", SPECS)
def test_a_replayed_step_takes_its_own_minibatch_rate_and_momentum(spec: str) -> None:
    losses, parameters = trained(descent(spec), 9)
    recorder = Again()
    found, replayed = trained(descent(spec, recorder=recorder), 9)
    assert_close(found, losses, terms=9 * SUM, dtype=torch.float32)
    assert len(set(found)) == 9, "every loss is a tensor of its own"
    assert_close(replayed, parameters, terms=9 * SUM)
    assert recorder.records == 1
    assert recorder.run_steps == WARM_STEPS + 1, "the last minibatch is smaller than the recorded one"
    assert recorder.replays == 9 - WARM_STEPS - 1


def test_without_cuda_graphs_every_step_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Again(fails=True)
    with caplog.at_level(logging.WARNING):
        found = trained(descent(recorder=recorder), 9)
    assert found[0] == trained(descent(recorder=Never()), 9)[0]
    assert (recorder.records, recorder.run_steps) == (1, 9)
    assert "not permitted when stream is capturing" in caplog.text
    assert "CUDA kernel errors might be" not in caplog.text


def test_an_error_of_the_step_is_not_mistaken_for_a_failed_capture() -> None:
    step = CudaGraphStep(Again())

    def broken(images: Tensor, targets: Tensor) -> Tensor:
        raise ValueError("these targets do not fit")

    with pytest.raises(ValueError, match="do not fit"):
        step(broken, torch.zeros(1), torch.zeros(1))


def test_a_record_is_freed_with_the_training_that_made_it() -> None:
    trained_one = descent(recorder=Forgets())
    trained(trained_one, 6)
    gone = weakref.ref(trained_one)
    del trained_one
    assert gone() is None, "memory of the GPU must not wait for the garbage collector"


def test_on_the_cpu_losses_are_read_before_the_next_step() -> None:
    taken: list[int] = []

    def steps() -> Iterator[Tensor]:
        for number in range(3):
            taken.append(number)
            yield torch.tensor(float(number))

    found = read_scalars(steps(), CPU)
    assert (next(found), taken) == (0.0, [0])
    assert list(found) == [1.0, 2.0]


# What follows needs CUDA.


@needs_cuda
@pytest.mark.parametrize("count", [0, 3, LAG, 5 * LAG + 1])
def test_losses_on_cuda_are_read_late_but_completely_and_in_order(count: int) -> None:
    scalars = (torch.full((), float(number), device=CUDA) for number in range(count))
    assert list(read_scalars(scalars, CUDA)) == [float(number) for number in range(count)]


@needs_cuda
@pytest.mark.parametrize("spec", SPECS)
def test_a_cuda_graph_equals_its_kernels_run_one_by_one(spec: str, caplog: pytest.LogCaptureFixture) -> None:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        expected = trained(descent(spec, device=CUDA, recorder=Never()), 12, CUDA)
        caplog.clear()
        found = trained(descent(spec, device=CUDA), 12, CUDA)
    assert not caplog.records, "it was recorded"
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1])
    # After some steps at this rate any rounding has grown to a loss of its own.
    assert_close(found[0][:6], trained(descent(spec), 6)[0], terms=6, gain=3, dtype=TF32)


@needs_cuda
def test_a_large_minibatch_is_captured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recall_server.core.training.descent.images_at_once", lambda *_: 2)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        expected = trained(descent(device=CUDA, recorder=Never()), 8, CUDA)
        assert trained(descent(device=CUDA), 8, CUDA)[0] == expected[0]


@needs_cuda
def test_a_failed_capture_restores_cuda_and_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    total, step = torch.zeros((), device=CUDA), CudaGraphStep(CudaRecorder(CUDA))

    def waits_for_the_gpu(images: Tensor, targets: Tensor) -> Tensor:
        total.add_(images.sum())
        return torch.tensor(float(images.sum().item()), device=CUDA)

    before = torch.cuda.current_stream()
    images = torch.ones(2, 3, device=CUDA)
    losses = [float(step(waits_for_the_gpu, images * number, images)) for number in range(6)]
    assert losses == [6.0 * number for number in range(6)]
    assert float(total) == 6.0 * 15
    assert "cannot be recorded" in caplog.text
    assert torch.cuda.current_stream() == before


def classifier(device: str, **fields: object) -> FreshClassifier:
    plain = {"network": NetworkSpec(filters=8, depth=2), "steps": 40, "learning_rate": 0.02, "rows_per_class": 3}
    retraining = Retraining.model_validate(plain | fields)
    standard = Standardise(mean=torch.tensor([0.0]), deviation=torch.tensor([1.0]))
    return FreshClassifier(["a", "b", "c"], SHAPE, standard, retraining, seed=4, device=device)


@needs_cuda
def test_lazy_images_on_cuda_train_the_same_classifier() -> None:
    generator = torch.Generator().manual_seed(1)
    lazily = LazyItems(torch.randn(3, 20, 4, generator=generator), torch.randn(4, *SHAPE, generator=generator))
    pictures = recalled().flatten(0, 1)
    made, found = (
        classifier("cuda").fit(images, torch.eye(3)).predict_probabilities(pictures)
        for images in (lazily.materialise(), lazily)
    )
    assert_close(found, made, terms=6, size=1, dtype=TF32)


def recalled() -> Tensor:
    """[3, 5, 1, 32, 32]: noise around a picture of each class."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, 1, *SHAPE, generator=generator) + 0.3 * torch.randn(3, 5, *SHAPE, generator=generator)


@needs_cuda
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_training_on_cuda_is_reproducible_and_agrees_with_the_cpu(tmp_path: Path, decay: str) -> None:
    settings = {"augmentation": "flip+rotate", "decay": decay}
    for name in ("one", "two"):
        classifier("cuda", **settings).fit(recalled(), torch.eye(3)).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    pictures = recalled().flatten(0, 1)
    expected = classifier("cpu", **settings).fit(recalled(), torch.eye(3)).predict_probabilities(pictures)
    found = FreshClassifier.load(tmp_path / "one", device="cuda").predict_probabilities(pictures)
    assert_close(found, expected, terms=6, gain=3, size=1, dtype=TF32)
    assert len(classifier("cuda").fit(recalled(), torch.eye(3)).export_onnx()) > 0


@needs_cuda
def test_progress_on_cuda_counts_every_step_and_its_exceptions_end_the_training() -> None:
    seen: list[tuple[int, int]] = []
    classifier("cuda").fit(recalled(), torch.eye(3), progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(done, 40) for done in range(1, 41)]

    def cancel(done: int, total: int, loss: float) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier("cuda").fit(recalled(), torch.eye(3), progress=cancel)


@needs_cuda
def test_training_that_diverges_on_cuda_names_the_step_and_the_rate() -> None:
    diverging = classifier("cuda", learning_rate=10.0, momentum=0.99, steps=500)
    with pytest.raises(TrainingFailed, match=r"diverged after \d+ of 500 steps; use a learning rate below 10"):
        diverging.fit(recalled(), -1e3 * torch.eye(3))


@needs_cuda
def test_augmentation_draws_the_same_numbers_on_cpu_and_cuda() -> None:
    images = recalled().flatten(0, 1)
    there, here = (
        augment(images.to(device), ("flip", "rotate"), torch.Generator().manual_seed(3)).cpu() for device in (CUDA, CPU)
    )
    assert_close(there, here, terms=4, size=32 * float(here.abs().max()))  # coordinates up to 32
