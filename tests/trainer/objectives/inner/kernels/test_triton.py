"""What CUDA devices run computes what the reference does: kernels in Triton, windows, and steps that are replayed.

Without a GPU the kernels are interpreted, and a recording runs the function that it would have recorded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recall_server.core.networks import ConvNet, Parameters
from recall_server.core.networks.kernels import TorchBlocks
from tests.suite.needs import NO_TRITON
from tests.tolerances import assert_close
from trainer.objectives.inner.kernels import triton_blocks
from trainer.objectives.inner.packing import Packing
from trainer.objectives.inner.steps import cuda_graph_step
from trainer.objectives.inner.steps.convnet_step import ConvNetStep
from trainer.objectives.inner.steps.cuda_graph_step import CapturedStep
from trainer.objectives.inner.steps.select_step import inner_step
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState
from trainer.objectives.inner.unroll import unroll

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NETWORK = ConvNet(channels=3, height=7, width=8, classes=4, filters=6, depth=2)
TERMS = 3 * 5 * 7 * 8  # steps, and pixels of a minibatch: a gradient is their sum, the longest one


def test_kernels_in_triton_agree_with_the_reference() -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    file = Path(__file__).with_name("kernels_in_triton.py")
    interpreted = {"TRITON_INTERPRET": "1"} if DEVICE.type == "cpu" else {}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    run = subprocess.run(command, env=os.environ | interpreted, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_packing_and_unpacking_parameters_changes_nothing() -> None:
    parameters = NETWORK.initialise(torch.Generator().manual_seed(0))
    packing = Packing(NETWORK)
    vector = packing.packed(parameters)
    assert vector.shape == (packing.numbers,)
    unpacked = packing.unpacked(vector)
    assert list(unpacked) == list(parameters)
    assert all(torch.equal(unpacked[name], value) for name, value in parameters.items())
    assert unpacked["block1.convolution.weight"].is_contiguous(memory_format=torch.channels_last)
    assert unpacked["classifier.bias"].data_ptr() > vector.data_ptr()  # a view


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> CapturedStep:
    if DEVICE.type == "cpu":
        monkeypatch.setattr(cuda_graph_step, "_record", lambda function, device: function)
    return CapturedStep(ConvNetStep(NETWORK, TorchBlocks()))


def gradients(step: AbstractInnerStep) -> list[Tensor]:
    """Of a loss of all that three steps give, for all that goes into them."""
    generator = torch.Generator().manual_seed(0)

    def leaf(value: Tensor) -> Tensor:
        return value.to(DEVICE, torch.float64).requires_grad_()

    images, targets = (leaf(torch.rand(3, 5, *shape, generator=generator)) for shape in ((3, 7, 8), (4,)))
    parameters = {name: leaf(value) for name, value in NETWORK.initialise(generator).items()}
    velocity = {name: leaf(0.1 * torch.randn(value.shape, generator=generator)) for name, value in parameters.items()}
    rate, momentum = leaf(torch.tensor(0.1)), leaf(torch.tensor(0.9))
    after = unroll(step, TrainState(parameters, velocity, rate, momentum), images, targets)
    values = [*after.parameters.values(), *after.velocity.values()]
    loss = step.evaluate(after.parameters, images[0].detach(), targets[0].detach())
    loss = loss + sum((value.sin() * (i + 1)).sum() for i, value in enumerate(values))
    leaves = [images, targets, rate, momentum, *parameters.values(), *velocity.values()]
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def test_replayed_steps_have_the_gradients_of_eager_ones(replayed: CapturedStep) -> None:
    assert_close(gradients(replayed), gradients(replayed.plain), terms=TERMS)


def test_a_single_replayed_step_and_its_reverse_equal_eager_ones(replayed: CapturedStep) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(value: Tensor) -> Tensor:
        return torch.randn(value.shape, generator=generator).to(DEVICE, torch.float64)

    parameters: Parameters = {
        name: value.to(DEVICE, torch.float64) for name, value in NETWORK.initialise(generator).items()
    }
    mu = {name: draw(value) for name, value in parameters.items()}
    images, targets = draw(torch.empty(5, 3, 7, 8)), draw(torch.empty(5, 4)).softmax(dim=1)
    state = TrainState(parameters, mu, images.new_tensor(0.1), images.new_tensor(0.9))
    before = {name: value.clone() for name, value in parameters.items()}
    for step in (replayed, replayed):  # the second time nothing is recorded
        mine = step.forward(state, images, targets), step.reverse(parameters, images, targets, mu)
    plain = replayed.plain
    oracle = plain.forward(state, images, targets), plain.reverse(parameters, images, targets, mu)
    assert_close(mine, oracle, terms=TERMS)
    assert all(torch.equal(before[name], value) for name, value in parameters.items())


def test_zero_steps_change_nothing(replayed: CapturedStep) -> None:
    parameters = NETWORK.initialise(torch.Generator().manual_seed(0))
    rate = torch.tensor(0.1)
    state = TrainState(parameters, parameters, rate, rate)
    assert replayed.forward_steps(state, torch.empty(0, 5, 3, 7, 8), torch.empty(0, 5, 4)).state is state


def test_a_convnet_on_cuda_gets_replayed_steps_with_blocks_in_triton() -> None:
    pytest.importorskip("triton", reason=NO_TRITON)
    step = inner_step(NETWORK, torch.device("cuda"))
    assert isinstance(step, CapturedStep)
    assert step.network == NETWORK
    assert type(step.plain.blocks).__name__ == "TritonBlocks"


def test_without_triton_the_reason_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert triton_blocks() is None
    assert "triton is not installed" in caplog.text
