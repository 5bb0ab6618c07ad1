"""What only distilling needs of compiled operations: blocks in Triton for CUDA, and the training of small networks."""

from __future__ import annotations

import importlib.util
import logging

from recall_server.core.networks.kernels import AbstractBlocks

__all__ = ["triton_blocks"]

logger = logging.getLogger(__name__)


def triton_blocks() -> AbstractBlocks | None:
    """The operation in Triton; None, with a logged reason, where that is not installed.

    It is imported only when it is asked for: who trains on the CPU need not wait for it.
    """
    if importlib.util.find_spec("triton") is None:
        logger.warning("triton is not installed: training steps on CUDA run on torch's own operations, slower")
        return None
    blocks: AbstractBlocks = importlib.import_module("trainer.objectives.inner.kernels.triton_blocks").TritonBlocks()
    return blocks
