"""Which implementation of the inner step a network gets on a device: the fastest that there is."""

from __future__ import annotations

import torch

from recall_server.core.networks import AbstractNetwork, ConvNet
from recall_server.core.networks.kernels import TorchBlocks, native_blocks
from trainer.objectives.inner.kernels import triton_blocks
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep, can_compile
from trainer.objectives.inner.steps.convnet_step import ConvNetStep
from trainer.objectives.inner.steps.cuda_graph_step import CapturedStep
from trainer.objectives.inner.steps.step import AbstractInnerStep

LARGE_PARTS = 4  # times as many images at once take an eighth less time, where a few hundred MiB do not matter


def inner_step(
    network: AbstractNetwork, device: torch.device, *, compiled: bool = True, multiple: int = 1
) -> AbstractInnerStep:
    """The step of a ConvNet is written by hand; all others are derived, and compiled unless told not to.

    On CUDA the step by hand is recorded once and replayed. On the CPU large minibatches go through it in parts of
    `multiple` times the usual size.
    """
    if isinstance(network, ConvNet):
        if device.type == "cuda":
            return CapturedStep(ConvNetStep(network, triton_blocks() or TorchBlocks()))
        return ConvNetStep(network, native_blocks() or TorchBlocks(), multiple)
    return DifferentiatedStep(network, compiled=compiled and can_compile(device))
