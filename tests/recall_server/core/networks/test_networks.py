"""Networks: names, shapes, and agreement of the fast forward pass with the definition."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import avg_pool2d, cross_entropy

from recall_server.core.networks import AbstractNetwork, NetworkSpec, build_network
from recall_server.core.networks.blueprint import blueprint
from recall_server.core.training.fused import avg_pool_2x2, fused_logits, trainable_parameters
from tests.tolerances import assert_close, rounding

CONVOLUTIONAL = [
    "convnet:filters=8,depth=3",
    "convnet:filters=4,depth=1",
    "resnet",
    "alexnet",
    "convnet:depth=2,shrink=2",
]
SPECS = [*CONVOLUTIONAL, "mlp:hidden=16,depth=2", "linear"]
LONGEST_SUM = 9 * 512  # of the last convolutions of a resnet
SHAPES = [(1, 28, 28), (3, 16, 16), (3, 9, 13)]  # padded to 32; as they are; odd and oblong


def _network(spec: str, shape: tuple[int, int, int] = (1, 12, 12), classes: int = 5) -> AbstractNetwork:
    return build_network(NetworkSpec.parse(spec), shape, classes)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("convnet", "convnet:filters=128,depth=3"),
        ("convnet:depth=4", "convnet:filters=128,depth=4"),
        ("convnet:filters=64,depth=3", "convnet:filters=64,depth=3"),
        ("resnet", "resnet"),
        ("alexnet", "alexnet"),
        ("mlp", "mlp:hidden=256,depth=1"),
        ("mlp:depth=3,hidden=10", "mlp:hidden=10,depth=3"),
        ("convnet:shrink=2", "convnet:filters=128,depth=3,shrink=2"),
        ("convnet:shrink=1", "convnet:filters=128,depth=3"),
        ("resnet:shrink=2", "resnet:shrink=2"),
    ],
)
def test_a_spec_is_equal_after_round_trips_through_text_and_json(text: str, canonical: str) -> None:
    spec = NetworkSpec.parse(text)
    assert str(spec) == canonical
    assert NetworkSpec.parse(str(spec)) == spec
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
    assert NetworkSpec.model_validate(spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vgg", "there are convnet, resnet, alexnet, mlp, linear"),
        ("", "there are convnet, resnet, alexnet, mlp, linear"),
        ("resnet:depth=3", "resnet takes shrink, not depth"),
        ("convnet:hidden=3", "convnet takes filters, depth and shrink, not hidden"),
        ("mlp:filters=64", "mlp takes hidden and depth, not filters"),
        ("mlp:shrink=2", "mlp takes hidden and depth, not shrink"),
        ("linear:depth=1", "linear takes no settings, not depth"),
        ("convnet:shrink=0", "greater than or equal to 1"),
        ("convnet:shrink=9", "less than or equal to 8"),
        ("convnet:filters=0", "greater than or equal to 1"),
        ("convnet:filters=99999", "less than or equal to 1024"),
        ("convnet:filters", "is not a network; write for example"),
        ("convnet:width=3", "is not a network; write for example"),
        ("convnet:architecture=resnet", "is not a network; write for example"),
        ("convnet:depth=2,depth=3", "is not a network; write for example"),
        ("convnet:depth=three", "valid integer"),
    ],
)
def test_an_invalid_spec_is_refused_with_a_valid_one(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        NetworkSpec.parse(text)


def test_the_shrink_factor_can_be_set_for_architectures_that_shrink_their_input() -> None:
    assert str(NetworkSpec().shrinking(2)) == "convnet:filters=128,depth=3,shrink=2"
    assert NetworkSpec(shrink=2).shrinking(1) == NetworkSpec()
    mlp = NetworkSpec(architecture="mlp")
    assert mlp.shrinking(2) == mlp


def test_a_spec_refuses_fields_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        NetworkSpec.model_validate({"architecture": "convnet", "pooling": "max"})


@pytest.mark.parametrize("spec", ["convnet", "resnet", "alexnet"])
def test_images_too_small_for_the_poolings_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="7x28 are too small"):
        _network(spec, (1, 7, 28))


def test_images_that_are_too_small_after_shrinking_are_refused() -> None:
    with pytest.raises(ValueError, match=r"7x12, shrunk 8 times, are too small for 1 poolings; use larger ones"):
        _network("convnet:depth=1,shrink=8", (3, 7, 12))
    with pytest.raises(
        ValueError, match=r"16x16, shrunk 4 times, are too small for 3 poolings; use a depth of 2 or less"
    ):
        _network("convnet:shrink=4", (3, 16, 16))


@pytest.mark.parametrize("size", [(8, 8), (9, 13)])
def test_a_shrinking_network_equals_a_network_on_shrunk_images(size: tuple[int, int]) -> None:
    small, images = (3, size[0] // 2, size[1] // 2), torch.rand(2, 3, *size, generator=_generator())
    shrinking, other = _network("convnet:depth=1,shrink=2", (3, *size)), _network("convnet:depth=1", small)
    parameters = other.initialise(_generator())
    assert shrinking.shapes() == other.shapes()
    assert torch.equal(shrinking.logits(parameters, images), other.logits(parameters, avg_pool2d(images, 2)))


@pytest.mark.parametrize("spec", CONVOLUTIONAL)
def test_unprepare_is_the_transpose_of_prepare(spec: str) -> None:
    network = _network(spec, (3, 9, 13))
    images = torch.rand(2, 3, 9, 13, dtype=torch.float64, generator=_generator(), requires_grad=True)
    prepared = network.prepare(images)
    gradient = torch.rand(prepared.shape, dtype=torch.float64, generator=_generator(1))
    (oracle,) = torch.autograd.grad(prepared, images, gradient)
    assert_close(network.unprepare(gradient), oracle, terms=4)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="0 classes"):
        _network("convnet", classes=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", SPECS)
def test_every_network_gives_one_logit_a_class_from_the_parameters_it_lists(
    spec: str, shape: tuple[int, int, int]
) -> None:
    network = _network(spec, shape)
    parameters = network.initialise(_generator())
    assert {name: tuple(value.shape) for name, value in parameters.items()} == network.shapes()
    assert network.logits(parameters, torch.rand(2, *shape, generator=_generator())).shape == (2, 5)


@pytest.mark.parametrize(
    ("spec", "features"),
    [("convnet", 128 * 4 * 4), ("resnet", 512 * 4 * 4), ("alexnet", 192 * 4 * 4)],
)
@pytest.mark.parametrize("size", [28, 32])
def test_the_classifier_sees_the_features_of_the_authors_networks(spec: str, features: int, size: int) -> None:
    assert _network(spec, (3, size, size)).shapes()["classifier.weight"] == (5, features)


@pytest.mark.parametrize("spec", ["convnet", "resnet", "alexnet", "mlp"])
@pytest.mark.parametrize("size", [8, 16])
def test_small_images_that_differ_have_features_that_differ(spec: str, size: int) -> None:
    """The mean of a map after its instance norm is the same for all images."""
    network = build_network(NetworkSpec.parse(spec), (1, size, size), 3)
    generator = torch.Generator().manual_seed(0)
    features = network.features(network.initialise(generator), torch.rand(2, 1, size, size, generator=generator))
    assert float((features[0] - features[1]).abs().max()) > 0.01


def test_the_resnet_has_ten_weighted_layers_besides_shortcuts() -> None:
    weights = [name for name in _network("resnet").shapes() if name.endswith(".weight") and "shortcut" not in name]
    assert len(weights) == 10


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_with_pretrained_layers_has_a_fresh_classifier(spec: str) -> None:
    shape = (3, 32, 32)
    network = _network(spec, shape)
    other = build_network(NetworkSpec.parse(spec), shape, 17).initialise(_generator())
    learned = {name: value for name, value in other.items() if not name.startswith("classifier")}
    parameters = network.initialise_from(learned)
    assert {name: tuple(value.shape) for name, value in parameters.items()} == network.shapes()
    assert all(torch.equal(parameters[name], learned[name]) for name in learned)
    assert not network.logits(parameters, torch.rand(2, *shape, generator=_generator())).any()


@pytest.mark.parametrize("change", ["missing", "of another shape", "too many"])
def test_pretrained_layers_of_another_network_are_refused(change: str) -> None:
    network = _network("convnet")
    learned = {name: value for name, value in network.initialise(_generator()).items() if "classifier" not in name}
    name = "block0.convolution.weight"
    learned |= {"of another shape": {name: torch.zeros(4, 3, 3, 3)}, "too many": {"block9.weight": torch.zeros(1)}}.get(
        change, {}
    )
    if change == "missing":
        del learned[name]
    with pytest.raises(ValueError, match="the pretrained layers do not match the network"):
        network.initialise_from(learned)


@pytest.mark.parametrize("spec", SPECS)
def test_parameters_depend_only_on_the_seed(spec: str) -> None:
    network = _network(spec)
    state = torch.get_rng_state()
    first, again, other = (network.initialise(_generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    is_random = not torch.equal(first["classifier.weight"], other["classifier.weight"])
    assert is_random == (spec != "linear"), "a convex problem begins at zero"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", SPECS)
def test_the_fused_form_computes_the_definition_and_its_gradient(spec: str, shape: tuple[int, int, int]) -> None:
    network = _network(spec, shape)
    generator = _generator()
    parameters = {name: value.double().requires_grad_() for name, value in network.initialise(generator).items()}
    images = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    before = images.clone()
    targets = torch.tensor([0, 4, 2])
    defined, fused = network.logits(parameters, images), fused_logits(network, parameters, images)
    assert_close(fused, defined, terms=LONGEST_SUM)
    expected = torch.autograd.grad(cross_entropy(defined, targets), list(parameters.values()))
    names = trainable_parameters(network)
    found = torch.autograd.grad(cross_entropy(fused, targets), [parameters[name] for name in names])
    for name, gradient in zip(names, found, strict=True):
        assert_close(gradient, dict(zip(parameters, expected, strict=True))[name], terms=LONGEST_SUM)
    assert torch.equal(images, before)


@pytest.mark.parametrize("spec", SPECS)
def test_untrained_parameters_have_no_gradient_in_the_definition(spec: str) -> None:
    network = _network(spec)
    parameters = {name: value.double().requires_grad_() for name, value in network.initialise(_generator()).items()}
    left_out = sorted(set(parameters) - set(trainable_parameters(network)))
    assert all(name.endswith("convolution.bias") for name in left_out)
    if left_out:
        images = torch.randn(3, 1, 12, 12, generator=_generator(), dtype=torch.float64)
        loss = cross_entropy(network.logits(parameters, images), torch.tensor([0, 1, 2]))
        gradients = torch.autograd.grad(loss, [parameters[name] for name in left_out])
        assert max(float(gradient.abs().max()) for gradient in gradients) < rounding(torch.float64, terms=64)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 5), (3, 3)])
def test_pooling_drops_a_last_odd_row_or_column_and_differentiates(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, generator=_generator(), dtype=torch.float64, requires_grad=True)
    assert_close(avg_pool_2x2(images), avg_pool2d(images, 2), terms=4)
    assert torch.autograd.gradcheck(avg_pool_2x2, images)


@pytest.mark.parametrize("spec", CONVOLUTIONAL)
def test_convolutions_in_bfloat16_stay_near_and_leave_the_rest_in_float32(spec: str) -> None:
    network = _network(spec)
    parameters = network.initialise(_generator())
    images = torch.randn(4, 1, 12, 12, generator=_generator())
    exact = network.logits(parameters, images)
    rough = replace(network, convolution_dtype=torch.bfloat16)
    for rounded in (rough.logits(parameters, images), fused_logits(rough, parameters, images)):
        assert rounded.dtype == torch.float32
        assert 0 < float((rounded - exact).abs().max()) < 0.05 * float(exact.abs().max()) + 0.01


def test_a_network_without_a_blueprint_says_so() -> None:
    class Unheard(AbstractNetwork):
        def shapes(self) -> dict[str, tuple[int, ...]]:
            return {}

        def features(self, parameters: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
            return images

        def logits(self, parameters: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
            return images

    with pytest.raises(TypeError, match="no blueprint of Unheard"):
        blueprint(Unheard(channels=1, height=8, width=8, classes=2))
