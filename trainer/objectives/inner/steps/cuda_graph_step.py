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
from recall_server.core.training.cuda_graph import WARM_STEPS, CudaRecorder
from trainer.objectives.inner.packing import Packing
from trainer.objectives.inner.steps.convnet_step import ConvNetStep, loss_of
from trainer.objectives.inner.steps.step import AbstractInnerStep, Reversed, StepTrace, TrainState


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
    """The same step as `plain`, replayed. Inputs and outputs never alias the static buffers of the recordings."""

    plain: ConvNetStep
    _places: dict[object, StaticBuffers] = field(default_factory=dict, init=False, repr=False, compare=False)
    _replays: dict[object, Callable[[], None]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _packing: Packing = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", self.plain.network)
        object.__setattr__(self, "_packing", Packing(self.plain.network))

    def forward(self, state: TrainState, images: Tensor, targets: Tensor) -> TrainState:
        return self.forward_steps(state, images[None], targets[None]).state

    def forward_steps(
        self, state: TrainState, images: Tensor, targets: Tensor, keep: tuple[bool, bool] = (False, False)
    ) -> StepTrace:
        if not len(images):
            return StepTrace(state, [], [])
        with torch.no_grad():
            at, replay = self._recorded(self._train, images[0], targets[0])
            theta, motion = self._packing.packed(state.parameters), self._packing.packed(state.velocity)
            given = [theta, motion, state.rate, state.momentum]
            torch._foreach_copy_([at.theta, at.velocity, at.rate, at.momentum], given)
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
        return StepTrace(state.at(*after), weights.unbind(), velocities.unbind())

    def reverse(
        self, parameters: Parameters, images: Tensor, targets: Tensor, mu: Parameters
    ) -> tuple[Tensor, Tensor, Parameters]:
        still = {name: torch.zeros_like(value) for name, value in mu.items()}
        state = TrainState({}, {}, images.new_zeros(()), images.new_ones(()))
        trace = StepTrace(state, [self._packing.packed(parameters)], [])
        found = self.backward_steps(trace, images[None], targets[None], still, mu)
        return found.images[0], found.targets[0], found.parameters

    def backward_steps(
        self, trace: StepTrace, images: Tensor, targets: Tensor, lam: Parameters, mu: Parameters
    ) -> Reversed:
        rate, momentum = trace.state.rate, trace.state.momentum
        with torch.no_grad():
            at, replay = self._recorded(self._reverse, images[0], targets[0])
            adjoints = [self._packing.packed(lam), self._packing.packed(mu)]
            torch._foreach_copy_([at.lam, at.mu, at.rate, at.momentum], [*adjoints, rate, momentum])
            for_images, for_targets = torch.empty_like(images), torch.empty_like(targets)
            for_rate, for_momentum = torch.zeros_like(rate), torch.zeros_like(momentum)
            after = self._packing.packed(trace.state.velocity) if trace.velocities else None
            for t in reversed(range(len(images))):
                torch._foreach_copy_([at.image, at.target, at.theta], [images[t], targets[t], trace.weights[t]])
                if after is not None:
                    for_rate -= after @ at.lam
                    after = trace.velocities[t]
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
        if (function.__name__, size) not in self._replays:
            self._replays[function.__name__, size] = _record(lambda: function(at), images.device)
        return at, self._replays[function.__name__, size]


def _record(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Run the function a few times, then record it: the returned function replays the record."""
    recorder = CudaRecorder(device)
    with torch.no_grad(), _fastest_kernels():
        for _ in range(WARM_STEPS):
            recorder.run(function)
        replay, _ = recorder.record(function)
    return replay


def _fastest_kernels() -> AbstractContextManager[None]:
    """Let cuDNN try its kernels and take the fastest; float32 is multiplied as torch multiplies it by default."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, benchmark_limit=0, deterministic=False, allow_tf32=torch.backends.cudnn.allow_tf32
    )
