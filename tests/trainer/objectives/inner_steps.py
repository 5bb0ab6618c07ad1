"""Every way to compute an inner step of a ConvNet."""

from __future__ import annotations

import pytest

from recall_server.core.networks.kernels import TorchBlocks, native_blocks
from tests.suite.needs import NO_COMPILER
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep
from trainer.objectives.inner.steps.convnet_step import ConvNetStep

INNER_STEPS = {
    "derived": lambda network: DifferentiatedStep(network, compiled=False),
    "by hand, in torch": lambda network: ConvNetStep(network, TorchBlocks()),
    "by hand, in C++": lambda network: ConvNetStep(network, native_blocks() or pytest.skip(NO_COMPILER)),
}
