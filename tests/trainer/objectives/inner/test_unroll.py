"""The unroll equals naive unrolling, and leaves what it was given untouched."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.memory import Recalled
from recall_server.core.networks import ConvNet, Parameters
from recall_server.core.networks.kernels import TorchBlocks
from recall_server.core.training.fused import trainable_parameters
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close, magnitude
from trainer.objectives.inner.steps.autograd_step import DifferentiatedStep, can_compile
from trainer.objectives.inner.steps.convnet_step import ConvNetStep
from trainer.objectives.inner.steps.step import AbstractInnerStep, TrainState, soft_cross_entropy
from trainer.objectives.inner.unroll import train, unroll
from trainer.objectives.sampler import OuterBatch
from trainer.objectives.unrolled.unrolled import Unrolled

NETWORK = ConvNet(channels=1, height=4, width=4, classes=3, filters=2, depth=2)
TERMS = 4 * 3 * 4 * 4  # steps, and pixels of a minibatch: a gradient is their sum, the longest one
GAIN = 10  # a momentum of 0.9 adds up the gradients of ten steps


def make_inputs(
    steps: int = 4, batch: int = 3, dtype: torch.dtype = torch.float64, network: ConvNet = NETWORK
) -> dict[str, Tensor | Parameters]:
    generator = torch.Generator().manual_seed(1)
    parameters = {name: value.to(dtype) for name, value in network.initialise(generator).items()}
    return {
        "images": torch.randn(steps, batch, 1, 4, 4, generator=generator, dtype=dtype),
        "targets": torch.randn(steps, batch, 3, generator=generator, dtype=dtype).softmax(dim=2),
        "parameters": parameters,
        "velocity": {
            name: 0.1 * torch.randn(value.shape, generator=generator, dtype=dtype) for name, value in parameters.items()
        },
        "rate": torch.tensor(0.3, dtype=dtype),
        "momentum": torch.tensor(0.9, dtype=dtype),
    }


def leaves(inputs: dict) -> dict:
    return {
        key: {name: v.clone().requires_grad_() for name, v in value.items()}
        if isinstance(value, dict)
        else value.clone().requires_grad_()
        for key, value in inputs.items()
    }


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive_unroll(images, targets, parameters, velocity, *, rate, momentum):
    """The oracle: every step in one graph, by create_graph."""
    for batch, target in zip(images, targets, strict=True):
        loss = soft_cross_entropy(NETWORK.logits(parameters, batch), target)
        gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        velocity = {name: momentum * velocity[name] + g for (name, g) in zip(parameters, gradient, strict=True)}
        parameters = {name: parameters[name] - rate * velocity[name] for name in parameters}
    return parameters, velocity


def ours(step: AbstractInnerStep):
    """`unroll` with the arguments of the oracle."""

    def run(images, targets, parameters, velocity, *, rate, momentum):
        after = unroll(step, TrainState(parameters, velocity, rate, momentum), images, targets)
        return after.parameters, after.velocity

    return run


def outer_loss(parameters: Parameters, velocity: Parameters) -> Tensor:
    """Touches every output, velocity too."""
    return sum((value.sin() * (i + 1)).sum() for i, value in enumerate([*parameters.values(), *velocity.values()]))


def gradients(function, inputs: dict) -> list[Tensor]:
    given = leaves(inputs)
    parameters, velocity = function(
        given["images"],
        given["targets"],
        given["parameters"],
        given["velocity"],
        rate=given["rate"],
        momentum=given["momentum"],
    )
    flat = [leaf for value in given.values() for leaf in (value.values() if isinstance(value, dict) else [value])]
    return [outer_loss(parameters, velocity).detach(), *torch.autograd.grad(outer_loss(parameters, velocity), flat)]


def test_gradients_for_every_input_equal_naive_unrolling_in_float64(step: AbstractInnerStep) -> None:
    inputs = make_inputs()
    found = gradients(ours(step), inputs)
    naive = gradients(naive_unroll, inputs)
    assert_close(found, naive, terms=TERMS, gain=GAIN, size=magnitude(naive))


def test_passes_gradcheck_for_images_targets_parameters_rate_and_momentum(step: AbstractInnerStep) -> None:
    inputs = leaves(make_inputs(steps=2, batch=2))
    names = list(inputs["parameters"])

    def function(images, targets, rate, momentum, *parameters):
        given = dict(zip(names, parameters, strict=True))
        after = unroll(step, TrainState(given, inputs["velocity"], rate, momentum), images, targets)
        return *after.parameters.values(), *after.velocity.values()

    given = inputs["images"], inputs["targets"], inputs["rate"], inputs["momentum"], *inputs["parameters"].values()
    assert torch.autograd.gradcheck(function, given, fast_mode=True)  # in one random direction of each input


def test_the_parameters_of_the_network_are_bit_identical_afterwards(step: AbstractInnerStep) -> None:
    inputs = make_inputs()
    before = {name: value.clone() for name, value in inputs["parameters"].items()}
    gradients(ours(step), inputs)
    assert all(torch.equal(before[name], value) for name, value in inputs["parameters"].items())


def test_training_without_a_gradient_takes_the_same_steps(step: AbstractInnerStep) -> None:
    inputs = make_inputs()
    state = TrainState(inputs["parameters"], inputs["velocity"], inputs["rate"], inputs["momentum"])
    plain, unrolled = (way(step, state, inputs["images"], inputs["targets"]) for way in (train, unroll))
    for one, other in zip(plain[:2], unrolled[:2], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def bytes_kept(step: AbstractInnerStep, steps: int, *, learned_rate: bool) -> int:
    """Return the bytes of all tensors that an unroll creates and keeps alive, as the garbage collector sees them."""
    inputs = leaves(make_inputs(steps=steps))
    rate = inputs["rate"] if learned_rate else inputs["rate"].detach()
    state = TrainState(inputs["parameters"], inputs["velocity"], rate, inputs["momentum"].detach())
    with only_new_objects():
        after = unroll(step, state, inputs["images"], inputs["targets"])
        gc.collect()
        kept = sum(tensor.nbytes for tensor in living_tensors())
    assert after.parameters.keys() == after.velocity.keys()
    return kept


@contextmanager
def only_new_objects() -> Iterator[None]:
    """Hide every object that exists already from the garbage collector, which makes looking at all others quick."""
    gc.freeze()
    yield
    gc.unfreeze()


def living_tensors() -> list[Tensor]:
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


@pytest.mark.parametrize(("learned_rate", "sets"), [(False, 1), (True, 2)], ids=["weights", "weights and velocities"])
def test_memory_grows_only_by_the_stored_weights(step: AbstractInnerStep, learned_rate: bool, sets: int) -> None:
    weights = sum(value.nbytes for value in make_inputs(steps=1)["parameters"].values())
    growth = bytes_kept(step, 12, learned_rate=learned_rate) - bytes_kept(step, 4, learned_rate=learned_rate)
    assert growth == 8 * sets * weights


@pytest.mark.parametrize("learned_rate", [False, True])
def test_a_dropped_unroll_frees_its_weights_without_the_garbage_collector(
    step: AbstractInnerStep, learned_rate: bool
) -> None:
    inputs = leaves(make_inputs(steps=3))
    rate = inputs["rate"] if learned_rate else inputs["rate"].detach()
    state = TrainState(inputs["parameters"], inputs["velocity"], rate, inputs["momentum"].detach())
    with only_new_objects():
        gc.disable()
        try:
            unroll(step, state, inputs["images"], inputs["targets"])
            assert living_tensors() == []
        finally:
            gc.enable()


@pytest.mark.parametrize(("variable", "value"), [("CXX", "no-such-compiler"), ("PATH", "")])
def test_without_a_compiler_a_derived_step_warns_and_runs_eagerly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, value)
    assert not can_compile(torch.device("cpu"))
    assert "no C++ compiler found" in caplog.text
    assert "eagerly" in caplog.text


def test_without_avx2_a_derived_step_warns_and_runs_eagerly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "DEFAULT")
    assert not can_compile(torch.device("cpu"))
    assert "eagerly" in caplog.text


def test_compiled_code_of_one_instruction_set_is_not_used_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch keeps compiled code by the settings that it was compiled with."""
    settings: list[object] = []
    monkeypatch.setattr("torch.compile", lambda function, options, **_: settings.append(options) or function)
    for capability in ("AVX2", "AVX512", "DEFAULT"):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda capability=capability: capability)
        DifferentiatedStep(NETWORK)
    assert settings == [{"cpp.simdlen": 256}] * 3 + [{"cpp.simdlen": 512}] * 3 + [{}] * 3


@pytest.mark.process  # the compiler, some twenty times
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason=f"{NO_COMPILER}; or no AVX2: use another processor")
def test_compiled_steps_agree_with_eager_ones_in_float32() -> None:
    shallow = replace(NETWORK, depth=1)  # the compiler takes half of the time
    inputs = make_inputs(steps=3, dtype=torch.float32, network=shallow)
    eager = gradients(ours(DifferentiatedStep(shallow, compiled=False)), inputs)
    with torch._inductor.config.patch({"compile_threads": 1, "cpp.vec_isa_ok": True}):  # or it starts processes first
        compiled = gradients(ours(DifferentiatedStep(shallow, compiled=True)), inputs)
    assert_close(compiled, eager, terms=TERMS, gain=GAIN, size=magnitude(eager))


@pytest.mark.parametrize("before", [0, 2])
def test_an_unroll_from_pretrained_layers_equals_one_that_starts_from_these(before: int) -> None:
    """The oracle starts from the layers and a last one of zeros, and sees all rows at every step.

    What the steps `before` the window add to the layers is a constant to it.
    """
    generator = torch.Generator().manual_seed(2)
    names = trainable_parameters(NETWORK)
    learned = all_but_the_last(replace(NETWORK, classes=7).initialise(generator))
    leaves = {name: value.requires_grad_() for name, value in learned.items() if name in names}
    recalled = torch.randn(3, 2, 1, 4, 4, generator=generator)
    real, targets = torch.randn(6, 1, 4, 4, generator=generator), torch.eye(3)
    of_real = targets.repeat_interleave(2, dim=0)
    step = ConvNetStep(NETWORK, TorchBlocks())
    longest = Unrolled(step=step, steps=3 + before, window=3, rate=0.3, rows_per_class=2)
    lengths = (int(torch.randint(3, 4 + before, (), generator=drawn(seed))) for seed in range(99))
    seed = list(lengths).index(3 + before)
    found, expected = recalled.clone().requires_grad_(), recalled.clone().requires_grad_()
    loss = longest.score(
        OuterBatch(Recalled(found, targets.unsqueeze(1)), real, of_real, pretrained=learned), drawn(seed)
    )
    loss.backward()  # type: ignore[no-untyped-call]

    reached = [leaf.grad.clone() for leaf in leaves.values()]
    for leaf in leaves.values():
        leaf.grad = None
    parameters = {name: value.requires_grad_() for name, value in NETWORK.initialise_from(learned).items()}
    still = {name: torch.zeros_like(value) for name, value in parameters.items()}
    images, hard = expected.flatten(0, 1).expand(3, -1, -1, -1, -1), of_real.expand(3, -1, -1)
    later, velocity = naive_unroll(images[:before], hard[:before], parameters, still, rate=0.3, momentum=0.9)
    velocity = {name: value.detach() for name, value in velocity.items()}
    parameters = {name: value + (later[name] - value).detach() for name, value in parameters.items()}
    parameters, _ = naive_unroll(images, hard, parameters, velocity, rate=0.3, momentum=0.9)
    oracle = soft_cross_entropy(NETWORK.logits(parameters, real), of_real)
    oracle.backward()
    assert_close(loss, oracle, terms=TERMS)
    assert_close(found.grad, expected.grad, terms=TERMS, gain=GAIN)
    gradients = [leaf.grad for leaf in leaves.values()]
    assert_close(reached, gradients, terms=TERMS, gain=GAIN, size=magnitude(gradients))
