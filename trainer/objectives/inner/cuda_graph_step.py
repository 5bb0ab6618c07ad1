"""A ConvNet's inner steps on a CUDA device as CUDA graphs: one launch for each instead of some sixty.

A step on a minibatch of a hundred small pictures takes the device half a millisecond, and the host several to launch.
So a step, and its reverse with the recursion of `trainer.objectives.inner.unroll`, are recorded once for every size of
minibatch and replayed from then on. They work on static buffers, one vector each for parameters, velocity and their
adjoints, so that an update is one operation however deep the network, and all weights are rounded to bfloat16 at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from recall_server.core.networks import Parameters
from trainer.objectives.inner.convnet_step import ConvNetStep, loss_of
from trainer.objectives.inner.packing import Packing
from trainer.objectives.inner.step import AbstractInnerStep, Reversed, StepTrace

WARM_UPS = 3  # runs before a recording: compiling, and cuDNN's choice of its fastest kernels


class StaticBuffers:
    """Where the recordings for one size of minibatch read and write."""

    def __init__(self, numbers: int, images: Tensor, targets: Tensor) -> None:
        # Contiguous, and never views of what was given: recordings write here.
        self.image, self.target = torch.zeros_like(images, memory_format=torch.contiguous_format), targets.clone()
        self.for_image, self.for_target = torch.zeros_like(self.image), torch.zeros_like(self.target)
        self.theta, self.velocity, self.lam, self.mu = images.new_zeros(4, numbers)
        self.rate, self.momentum, self.loss = images.new_zeros(3)


@final
@dataclass(frozen=True)
class CapturedStep(AbstractInnerStep):
    """The same step as `plain`, replayed. Nothing that is given or comes out lies where the recordings work."""

    plain: ConvNetStep
    _places: dict[object, StaticBuffers] = field(default_factory=dict, init=False, repr=False, compare=False)
    _graphs: dict[object, torch.cuda.CUDAGraph] = field(default_factory=dict, init=False, repr=False, compare=False)
    _packing: Packing = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.plain.network)
        object.__setattr__(self, "_packing", Packing(self.plain.network))

    def forward(
        self,
        parameters: Parameters,
        velocity: Parameters,
        images: Tensor,
        targets: Tensor,
        *,
        rate: Tensor,
        momentum: Tensor,
    ) -> tuple[Parameters, Parameters]:
        swept = self.forward_steps(images[None], targets[None], parameters, velocity, rate=rate, momentum=momentum)
        return swept.parameters, swept.velocity

    def forward_steps(
        self,
        images: Tensor,
        targets: Tensor,
        parameters: Parameters,
        velocity: Parameters,
        *,
        rate: Tensor,
        momentum: Tensor,
        keep: tuple[bool, bool] = (False, False),
    ) -> StepTrace:
        if not len(images):
            return StepTrace(parameters, velocity, [], [])
        with torch.no_grad():
            at, replay = self._recorded(self._train, images[0], targets[0])
            theta, motion = self._packing.packed(parameters), self._packing.packed(velocity)
            torch._foreach_copy_([at.theta, at.velocity, at.rate, at.momentum], [theta, motion, rate, momentum])
            weights = theta.new_empty(len(images) if keep[0] else 0, len(theta))
            velocities = theta.new_empty(len(images) if keep[1] else 0, len(theta))
            for t, (batch, target) in enumerate(zip(images.unbind(), targets.unbind(), strict=True)):
                to, source = [at.image, at.target], [batch, target]
                if keep[0]:
                    to, source = [*to, weights[t]], [*source, at.theta]
                if keep[1]:
                    to, source = [*to, velocities[t]], [*source, at.velocity]
                torch._foreach_copy_(to, source)
                replay()
            after = self._packing.unpacked(at.theta.clone()), self._packing.unpacked(at.velocity.clone())
        return StepTrace(*after, weights.unbind(), velocities.unbind())

    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        still = {name: torch.zeros_like(value) for name, value in mu.items()}
        swept = StepTrace({}, {}, [self._packing.packed(parameters)], [])
        zero, one = images.new_zeros(()), images.new_ones(())
        found = self.backward_steps(swept, images[None], targets[None], still, mu, rate=zero, momentum=one)
        return found.images[0], found.targets[0], found.parameters

    def backward_steps(
        self,
        swept: StepTrace,
        images: Tensor,
        targets: Tensor,
        lam: Parameters,
        mu: Parameters,
        *,
        rate: Tensor,
        momentum: Tensor,
    ) -> Reversed:
        with torch.no_grad():
            at, replay = self._recorded(self._reverse, images[0], targets[0])
            adjoints = [self._packing.packed(lam), self._packing.packed(mu)]
            torch._foreach_copy_([at.lam, at.mu, at.rate, at.momentum], [*adjoints, rate, momentum])
            for_images, for_targets = torch.empty_like(images), torch.empty_like(targets)
            for_rate, for_momentum = torch.zeros_like(rate), torch.zeros_like(momentum)
            after = self._packing.packed(swept.velocity) if swept.velocities else None
            for t in reversed(range(len(images))):
                torch._foreach_copy_([at.image, at.target, at.theta], [images[t], targets[t], swept.weights[t]])
                if after is not None:
                    for_rate -= after @ at.lam
                    after = swept.velocities[t]
                    for_momentum += after @ (at.mu - rate * at.lam)
                replay()
                torch._foreach_copy_([for_images[t], for_targets[t]], [at.for_image, at.for_target])
            before = self._packing.unpacked(at.lam.clone()), self._packing.unpacked(at.mu.clone())
        return Reversed(for_images, for_targets, for_rate, for_momentum, *before)

    def evaluate(self, parameters: Parameters, images: Tensor, targets: Tensor) -> Tensor:
        return loss_of(self.loss_and_gradient, parameters, images, targets)

    def loss_and_gradient(self, parameters: Parameters, images: Tensor, targets: Tensor) -> tuple[Tensor, Parameters]:
        """The loss [] and its gradient for the parameters."""
        at, replay = self._recorded(self._evaluate, images, targets)
        torch._foreach_copy_([at.image, at.target, at.theta], [images, targets, self._packing.packed(parameters)])
        replay()
        return at.loss.clone(), self._packing.unpacked(at.lam.clone())

    def _train(self, at: StaticBuffers) -> None:
        _, gradient = self.plain.loss_and_gradient(self._weights(at.theta), at.image, at.target)
        torch.addcmul(self._packing.packed(gradient), at.velocity, at.momentum, out=at.velocity)
        at.theta.sub_(at.velocity * at.rate)

    def _reverse(self, at: StaticBuffers) -> None:
        at.mu.sub_(at.lam * at.rate)
        for_images, for_targets, product = self.plain.reverse(
            self._weights(at.theta), at.image, at.target, self._weights(at.mu)
        )
        torch._foreach_copy_([at.for_image, at.for_target], [for_images, for_targets])
        at.lam.add_(self._packing.packed(product))
        at.mu.mul_(at.momentum)

    def _evaluate(self, at: StaticBuffers) -> None:
        loss, gradient = self.plain.loss_and_gradient(self._weights(at.theta), at.image, at.target)
        at.loss.copy_(loss)
        at.lam.copy_(self._packing.packed(gradient))

    def _weights(self, vector: Tensor) -> Parameters:
        """Views of a vector, those of convolutions as they are multiplied."""
        stored = self._packing.unpacked(vector.to(self.plain.by_hand.stored(vector.dtype)))
        exact = self._packing.unpacked(vector)
        return {name: stored[name] if exact[name].ndim == 4 else exact[name] for name in exact}

    def _recorded(
        self, function: Callable[[StaticBuffers], None], images: Tensor, targets: Tensor
    ) -> tuple[StaticBuffers, Callable[[], None]]:
        size: Any = images.shape, targets.shape, images.dtype, images.device
        if size not in self._places:
            self._places[size] = StaticBuffers(self._packing.numbers, images, targets)
        at = self._places[size]
        if (function.__name__, size) not in self._graphs:
            self._graphs[function.__name__, size] = _record(lambda: function(at))
        return at, self._graphs[function.__name__, size].replay


def _record(function: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """The function as a graph, after some runs of it."""
    aside, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
    with torch.no_grad(), _fastest_kernels():
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(graph):
            function()
    return graph


def _fastest_kernels() -> AbstractContextManager[None]:
    """cuDNN tries its kernels and takes the fastest; float32 is multiplied as torch multiplies it by default."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, benchmark_limit=0, deterministic=False, allow_tf32=torch.backends.cudnn.allow_tf32
    )
