"""Compiled operations that only distilling needs: blocks in Triton for CUDA, and the training of small networks."""

from __future__ import annotations

import importlib.util
import logging

from recall_server.core.networks.kernels import AbstractBlocks

__all__ = ["triton_blocks"]

logger = logging.getLogger(__name__)


def triton_blocks() -> AbstractBlocks | None:
    """Return the blocks in Triton; None, with the reason in the log, if Triton is not installed.

    Triton takes long to import, so it is imported here and not where only the CPU is used.
    """
    if importlib.util.find_spec("triton") is None:
        logger.warning("triton is not installed: training steps on CUDA run on torch's own operations, slower")
        return None
    blocks: AbstractBlocks = importlib.import_module("trainer.objectives.inner.kernels.normalise_pool").TritonBlocks()
    return blocks
