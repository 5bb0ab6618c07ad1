"""A training step on CUDA as one recorded graph, so that about 150 kernels cost the host a single launch.

Launching small kernels one by one takes the host longer than the kernels take the GPU. A CUDA graph stores the kernels
with their addresses and reads and writes the same memory at each replay. Everything that differs from step to step,
minibatches and rates included, must be copied to those addresses first. A replay runs the recorded kernels, so its
results are identical.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar, final

import torch
from torch import Tensor

WARM_STEPS = 3  # steps run eagerly first: libraries initialise themselves, which cannot be recorded

Step = Callable[[Tensor, Tensor], Tensor]
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Runs a step eagerly, and records one."""

    def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` eagerly and return its result."""

    def record(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """Record `work` without running it.

        Returns a function that replays it on the same memory, and the tensor that each replay writes its result to.
        Raises RuntimeError if the work cannot be recorded.
        """


@final
class CudaRecorder:
    """Records CUDA graphs of one device, on a stream of its own; eager steps run on the same stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], Result]) -> Result:
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            result = work()
        main.wait_stream(self._stream)
        return result

    def record(self, work: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        graph = torch.cuda.CUDAGraph()
        # The outer context restores the caller's stream: on an error torch may leave the graph's stream current.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                result = work()
        return graph.replay, result


@final
class CudaGraphStep:
    """Runs a step eagerly a few times, then records it and replays the recording.

    Minibatches whose shape differs from the recorded one run eagerly, and so do all of them if recording fails.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._wait = WARM_STEPS
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._replay: Callable[[], None] | None = None
        self._loss: Tensor | None = None

    def __call__(self, step: Step, images: Tensor, targets: Tensor) -> Tensor:
        """Run `step(images, targets)` and return its loss, a scalar that no later step overwrites.

        `step` must be the same at every call, and may only change, in place, tensors that outlive this object. This
        object keeps no reference to it, so an object that records its own method makes no reference cycle.
        """
        if self._wait == 0 and self._inputs is None:
            self._record(step, images, targets)
        if self._replay is None or self._loss is None or not self._fits(images, targets):
            self._wait = max(0, self._wait - 1)
            return self._recorder.run(lambda: step(images, targets))
        for kept, new in zip(self._inputs or (), (images, targets), strict=True):
            kept.copy_(new)
        self._replay()
        return self._loss.clone()

    def _record(self, step: Step, images: Tensor, targets: Tensor) -> None:
        """Record on copies of the minibatch, which become the graph's input buffers. A failure is not retried."""
        kept = self._inputs = images.clone(), targets.clone()
        try:
            self._replay, self._loss = self._recorder.record(lambda: step(*kept))
        except RuntimeError as error:  # includes torch's CUDA errors and its out-of-memory error
            reason = str(error).partition("\n")[0]
            logger.warning("training continues without a CUDA graph, because the step cannot be recorded: %s", reason)

    def _fits(self, images: Tensor, targets: Tensor) -> bool:
        return self._inputs is not None and all(
            kept.shape == new.shape and kept.dtype == new.dtype
            for kept, new in zip(self._inputs, (images, targets), strict=True)
        )
