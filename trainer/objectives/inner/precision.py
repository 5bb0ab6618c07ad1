"""In which numbers the convolutions of inner networks are multiplied."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from recall_server.core.networks import AbstractNetwork

Precision = Literal["float32", "bfloat16"]


def with_precision(network: AbstractNetwork, precision: Precision, device: torch.device) -> AbstractNetwork:
    """The same network with its convolutions multiplied in `precision`; parameters and all else stay float32.

    Raises ValueError where bfloat16 is asked of a processor without instructions for it: torch emulates it there, and a
    step takes some twenty times as long as in float32 (`python -m benchmarks.unroll`).
    """
    if precision == "float32":
        return replace(network, convolution_dtype=None)
    if device.type == "cpu" and not processor_has_bfloat16():
        raise ValueError(
            "this processor has no instructions for bfloat16 (AVX-512, AMX or Arm's): a step would take some twenty "
            "times as long as in float32; leave out --set objective.precision=bfloat16, or run with --device cuda"
        )
    return replace(network, convolution_dtype=torch.bfloat16)


def processor_has_bfloat16() -> bool:
    """Whether oneDNN, which does torch's convolutions on the CPU, takes bfloat16 on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
