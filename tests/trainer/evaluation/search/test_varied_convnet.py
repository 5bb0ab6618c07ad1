"""ConvNets with other norms, activations and poolings: what they compute, and how they are written."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.training.descent import MomentumDescent
from tests.tolerances import assert_close
from trainer.evaluation.search.space import parse_candidate
from trainer.evaluation.search.varied_convnet import VariedSpec

NORMS = {
    "layer": lambda: nn.GroupNorm(1, 8),
    "instance": lambda: nn.GroupNorm(8, 8),
    "group": lambda: nn.GroupNorm(4, 8),
}
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "leaky-relu": nn.LeakyReLU}
POOLINGS = {"max": lambda: nn.MaxPool2d(2), "average": lambda: nn.AvgPool2d(2)}


def layers(spec: VariedSpec) -> nn.Sequential:
    """The same network of torch's own layers, for 3 x 8 x 8 images and 5 classes."""
    found, channels, side = list[nn.Module](), 3, 8
    for _ in range(spec.depth):
        found.append(nn.Conv2d(channels, spec.filters, 3, padding=1))
        if spec.norm != "none":
            found.append(NORMS[spec.norm]())
        found.append(ACTIVATIONS[spec.activation]())
        if spec.pooling != "none":
            found.append(POOLINGS[spec.pooling]())
            side //= 2
        channels = spec.filters
    return nn.Sequential(*found, nn.Flatten(), nn.Linear(spec.filters * side * side, 5))


@pytest.mark.parametrize("norm", ["none", "layer", "instance", "group"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pooling", ["none", "max", "average"])
def test_logits_are_those_of_torchs_layers(norm: str, activation: str, pooling: str) -> None:
    spec = VariedSpec.parse(f"convnet:filters=8,depth=2,norm={norm},activation={activation},pooling={pooling}")
    network, generator = spec.build((3, 8, 8), 5), torch.Generator().manual_seed(0)
    parameters = {
        name: value + torch.rand(value.shape, generator=generator)
        for name, value in network.initialise(generator).items()
    }
    reference = layers(spec)
    for own, value in zip(reference.parameters(), parameters.values(), strict=True):
        own.data = value
    images = torch.randn(4, 3, 8, 8, generator=generator)
    assert_close(network.logits(parameters, images), reference(images), terms=9 * 8 + 8 * 64, gain=10)


def test_the_usual_one_is_a_convnet() -> None:
    usual, varied = (
        build_network(NetworkSpec(filters=8, depth=2), (3, 7, 9), 5),
        VariedSpec(filters=8, depth=2).build((3, 7, 9), 5),
    )
    parameters = usual.initialise(torch.Generator().manual_seed(0))
    same = {name.replace("convolution", "filters"): value for name, value in parameters.items()}
    images = torch.randn(4, 3, 7, 9, generator=torch.Generator().manual_seed(1))
    assert varied.shapes() == {name: tuple(value.shape) for name, value in same.items()}
    assert_close(varied.logits(same, images), usual.logits(parameters, images), terms=9 * 8 + 8 * 64, gain=10)


def test_training_changes_all_parameters() -> None:
    network = VariedSpec(filters=4, depth=1, norm="none", activation="sigmoid", pooling="none").build((1, 4, 4), 2)
    parameters = network.initialise(torch.Generator().manual_seed(0))
    descent = MomentumDescent(network, dict(parameters))
    images, targets = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.eye(2).repeat(3, 1)
    for _ in range(2):
        descent.step(images, targets, rate=0.1, momentum=0.9)
    assert all(not torch.equal(parameters[name], value) for name, value in descent.parameters().items())


@pytest.mark.parametrize(
    "text", ["convnet:norm=none", "convnet:filters=8,depth=2,norm=layer,activation=relu,pooling=max"]
)
def test_its_text_can_be_read_again(text: str) -> None:
    found = parse_candidate(text)
    assert isinstance(found, VariedSpec)
    assert parse_candidate(str(found)) == found


@pytest.mark.parametrize(
    "text", ["convnet:norm=batch", "convnet:norm=none,shrink=2", "convnet:norm=none,filters=many", "mlp:norm=none"]
)
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="norm|shrink|filters"):
        parse_candidate(text)
