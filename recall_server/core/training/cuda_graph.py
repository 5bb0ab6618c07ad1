"""A step of training on CUDA as one recorded graph, so that some 150 kernels cost the host a single launch.

Launching kernels one after another takes the host longer than small kernels take the GPU. A CUDA graph holds the
kernels with their addresses: it reads and writes the same memory whenever it is replayed, so whatever differs from step
to step has to lie there, minibatches and rates included. The kernels, and with them all numbers, are those that were
recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, final

import torch
from torch import Tensor

WARM_STEPS = 3  # that run as they are: libraries prepare themselves, which cannot be recorded

Step = Callable[[Tensor, Tensor], Tensor]

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """How a step is run before it is recorded, and how it is recorded."""

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """What `work` returns."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A function that does the same work again on the same memory, and the tensor that its result appears in.

        Nothing has been computed when this returns. Raises RuntimeError where the work cannot be recorded.
        """


@final
class CudaRecorder:
    """CUDA graphs of one device, recorded on a stream of their own, on which the steps before have run too."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            result = work()
        main.wait_stream(self._stream)
        return result

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        # The outer context brings the caller's stream back, even where torch leaves the graph's in place on an error.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                result = work()
        return graph.replay, result


@final
class CudaGraphStep:
    """Runs a step a few times, then records it, and from then on replays the record.

    Minibatches of another shape than that of the record run as they are, and so does every one where recording fails.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._wait = WARM_STEPS
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._replay: Callable[[], None] | None = None
        self._loss: Tensor | None = None

    def __call__(self, step: Step, images: Tensor, targets: Tensor) -> Tensor:
        """The loss that `step(images, targets)` returns, a scalar of its own.

        `step` must be the same at every call, and change only tensors that outlive this object, in place. It is not
        kept, so that an object may own a record of its own method and still be freed with its last reference.
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
        """Record on copies, whose memory is the record's input from now on; a failure is final."""
        kept = self._inputs = images.clone(), targets.clone()
        try:
            self._replay, self._loss = self._recorder.record(lambda: step(*kept))
        except RuntimeError as error:  # torch's errors of CUDA, and of too little memory, are such
            reason = str(error).partition("\n")[0]
            logger.warning("training goes on one kernel at a time, because a step cannot be recorded: %s", reason)

    def _fits(self, images: Tensor, targets: Tensor) -> bool:
        return self._inputs is not None and all(
            kept.shape == new.shape and kept.dtype == new.dtype
            for kept, new in zip(self._inputs, (images, targets), strict=True)
        )
