"""What a ConvNet's block computes besides its convolution, in torch and in C++."""

from trainer.kernels.blocks import AbstractBlocks, Affine, BlockTangent, BlockValue, TorchBlocks
from trainer.kernels.native import NativeBlocks, native_blocks

__all__ = ["AbstractBlocks", "Affine", "BlockTangent", "BlockValue", "NativeBlocks", "TorchBlocks", "native_blocks"]
