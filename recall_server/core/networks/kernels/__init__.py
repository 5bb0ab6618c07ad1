"""The operations of a ConvNet block (convolution, instance norm, ReLU, pooling), in torch and in C++ for the CPU."""

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
