"""Reads scalars from the GPU without synchronising at every step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

LAG = 8  # steps


def read_scalars(scalars: Iterable[Tensor], device: torch.device) -> Iterator[float]:
    """Yield scalars on `device` as floats, in order; on CUDA at most LAG steps after they were computed.

    `float` of a CUDA tensor waits until the GPU is idle, and the GPU then waits for the host to launch the next step.
    This generator waits only for the step LAG steps back, and the steps launched since keep the GPU busy. On other
    devices each scalar is requested only after the previous float was taken.
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
