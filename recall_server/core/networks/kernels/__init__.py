"""What a ConvNet's block computes, in torch and in C++ for the CPU; of the convolution also the ways to do it."""

from recall_server.core.networks.kernels.blocks import (
    EPSILON,
    AbstractBlocks,
    Affine,
    BlockTangent,
    BlockValue,
    TorchBlocks,
)
from recall_server.core.networks.kernels.native import NativeBlocks, native_blocks, prepare

__all__ = [
    "EPSILON",
    "AbstractBlocks",
    "Affine",
    "BlockTangent",
    "BlockValue",
    "NativeBlocks",
    "TorchBlocks",
    "native_blocks",
    "prepare",
]
