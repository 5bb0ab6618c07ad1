"""The unroll equals naive unrolling, and leaves what it was given untouched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recall_server.networks import ConvNet, Parameters
from trainer.inner_step import InnerStep, can_compile, soft_cross_entropy
from trainer.unroll import train, unroll

NETWORK = ConvNet(channels=1, height=4, width=4, classes=3, filters=2, depth=2)


def make_inputs(steps: int = 4, batch: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, Tensor | Parameters]:
    generator = torch.Generator().manual_seed(1)
    parameters = {name: value.to(dtype) for name, value in NETWORK.initialise(generator).items()}
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


def naive_unroll(images, targets, parameters, velocity, *, rate, momentum):
    """The oracle: every step in one graph, by create_graph."""
    for batch, target in zip(images, targets, strict=True):
        loss = soft_cross_entropy(NETWORK.logits(parameters, batch), target)
        gradient = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        velocity = {name: momentum * velocity[name] + g for (name, g) in zip(parameters, gradient, strict=True)}
        parameters = {name: parameters[name] - rate * velocity[name] for name in parameters}
    return parameters, velocity


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


def test_gradients_for_every_input_equal_naive_unrolling_in_float64() -> None:
    inputs = make_inputs()
    step = InnerStep(NETWORK, compiled=False)
    ours = gradients(lambda *a, **k: unroll(step, *a, **k), inputs)
    naive = gradients(naive_unroll, inputs)
    for mine, oracle in zip(ours, naive, strict=True):
        assert (mine - oracle).abs().max() <= 1e-9 * max(1.0, oracle.abs().max().item())


def test_passes_gradcheck_for_images_targets_parameters_rate_and_momentum() -> None:
    inputs = leaves(make_inputs(steps=2, batch=2))
    step = InnerStep(NETWORK, compiled=False)
    names = list(inputs["parameters"])

    def function(images, targets, rate, momentum, *parameters):
        given = dict(zip(names, parameters, strict=True))
        trained, velocity = unroll(step, images, targets, given, inputs["velocity"], rate=rate, momentum=momentum)
        return *trained.values(), *velocity.values()

    assert torch.autograd.gradcheck(
        function,
        (inputs["images"], inputs["targets"], inputs["rate"], inputs["momentum"], *inputs["parameters"].values()),
    )


def test_the_networks_own_parameters_come_out_bit_identical() -> None:
    inputs = make_inputs()
    before = {name: value.clone() for name, value in inputs["parameters"].items()}
    gradients(lambda *a, **k: unroll(InnerStep(NETWORK, compiled=False), *a, **k), inputs)
    assert all(torch.equal(before[name], value) for name, value in inputs["parameters"].items())


def test_training_without_a_gradient_takes_the_same_steps() -> None:
    inputs = make_inputs()
    step = InnerStep(NETWORK, compiled=False)
    arguments = inputs["images"], inputs["targets"], inputs["parameters"], inputs["velocity"]
    rates = {"rate": inputs["rate"], "momentum": inputs["momentum"]}
    plain, unrolled = train(step, *arguments, **rates), unroll(step, *arguments, **rates)
    for one, other in zip(plain, unrolled, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def saved_bytes(steps: int) -> int:
    """Bytes that the graph of an unroll of `steps` steps keeps alive, by torch's own accounting of saved tensors."""
    inputs = leaves(make_inputs(steps=steps))
    step = InnerStep(NETWORK, compiled=False)
    trained, _ = unroll(
        step,
        inputs["images"],
        inputs["targets"],
        inputs["parameters"],
        inputs["velocity"],
        rate=inputs["rate"].detach(),
        momentum=inputs["momentum"].detach(),
    )
    context = next(iter(trained.values())).grad_fn
    kept = [value for weights in context.weights for value in weights.values()] + list(context.saved_tensors)
    return sum(value.numel() * value.element_size() for value in kept)


def test_memory_grows_by_nothing_but_the_stored_weights_and_the_inputs() -> None:
    inputs = make_inputs(steps=1)
    weights = sum(value.numel() * 8 for value in inputs["parameters"].values())
    batch = (inputs["images"].numel() + inputs["targets"].numel()) * 8
    assert saved_bytes(12) - saved_bytes(4) == 8 * (weights + batch)


@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler")
def test_compiled_steps_agree_with_eager_ones_in_float32() -> None:
    inputs = make_inputs(steps=3, dtype=torch.float32)
    eager = gradients(lambda *a, **k: unroll(InnerStep(NETWORK, compiled=False), *a, **k), inputs)
    compiled = gradients(lambda *a, **k: unroll(InnerStep(NETWORK, compiled=True), *a, **k), inputs)
    for mine, oracle in zip(compiled, eager, strict=True):
        torch.testing.assert_close(mine, oracle, rtol=1e-3, atol=1e-4)
