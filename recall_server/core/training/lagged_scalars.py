"""Scalars of the GPU as numbers of the host, without making one wait for the other at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

LAG = 8  # steps


def read_scalars(scalars: Iterable[Tensor], device: torch.device) -> Iterator[float]:
    """Each of the scalars on `device` as a number, in their order; on CUDA up to LAG later than it was computed.

    `float` of a CUDA tensor waits until the GPU has nothing left to do, and then the GPU waits for the host to send
    the next step. Here the host waits for the step before the last LAG only, and what it has sent since keeps the GPU
    busy. Elsewhere no scalar is asked for before the number of the last one was taken.
    """
    if device.type != "cuda":
        yield from map(float, scalars)
        return
    slots = torch.empty(LAG, pin_memory=True)
    arrived = [torch.cuda.Event() for _ in range(LAG)]  # type: ignore[no-untyped-call]
    waiting: deque[int] = deque()

    def oldest() -> float:
        slot = waiting.popleft()
        arrived[slot].synchronize()
        return float(slots[slot])

    for count, scalar in enumerate(scalars):
        slot = count % LAG
        if len(waiting) == LAG:
            yield oldest()
        slots[slot].copy_(scalar, non_blocking=True)
        arrived[slot].record(torch.cuda.current_stream(device))
        waiting.append(slot)
    while waiting:
        yield oldest()
