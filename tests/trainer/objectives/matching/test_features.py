"""Distribution matching is its formula, written out naively in float64, and has the gradient of finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import avg_pool2d, conv2d, group_norm, relu

from recall_server.core.networks import MLP, Parameters
from recall_server.core.networks.kernels import AbstractBlocks, TorchBlocks, native_blocks
from recall_server.core.training import descent
from tests.suite.needs import NO_COMPILER
from tests.tolerances import assert_close, magnitude
from tests.trainer.objectives.matching.matching_examples import NETWORK, TERMS, batch, doubles, images
from trainer.objectives.inner.layer_features import ConvNetFeatures, LastFeatures, layer_features
from trainer.objectives.matching.features import DistributionMatching
from trainer.objectives.matching.networks import FreshNetworks
from trainer.objectives.matching.pairs import class_pairs
from trainer.objectives.sampler import OuterBatch


@pytest.fixture(params=["torch", "C++"])
def blocks(request: pytest.FixtureRequest) -> AbstractBlocks:
    return TorchBlocks() if request.param == "torch" else native_blocks() or pytest.skip(NO_COMPILER)


def blocks_of(parameters: Parameters, pictures: Tensor) -> list[Tensor]:
    """The outputs of both blocks, by torch's own layers; 10 pixels are padded to 12."""
    found, x = [], torch.nn.functional.pad(pictures, (1, 1, 0, 0))
    for block in range(2):
        name = f"block{block}"
        x = conv2d(x, parameters[f"{name}.convolution.weight"], parameters[f"{name}.convolution.bias"], padding=1)
        x = group_norm(x, 4, parameters[f"{name}.norm.scale"], parameters[f"{name}.norm.shift"])
        x = avg_pool2d(relu(x), 2)
        found.append(x.flatten(1))
    return found


def test_features_of_every_layer_and_their_gradients_are_those_of_torch(blocks: AbstractBlocks) -> None:
    parameters, mine, theirs = doubles(), *(images(5).requires_grad_() for _ in range(2))
    found, expected = ConvNetFeatures(NETWORK, blocks)(parameters, mine), blocks_of(parameters, theirs)
    assert_close(found, expected, terms=TERMS)
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(layer.shape, generator=generator).double() for layer in expected]
    for layers, pictures in ((found, mine), (expected, theirs)):
        sum((layer * weight).sum() for layer, weight in zip(layers, weights, strict=True)).backward()  # type: ignore[union-attr]
        assert pictures.grad is not None
    assert_close(mine.grad, theirs.grad, terms=TERMS, size=magnitude(theirs.grad))


def test_a_batch_in_parts_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    features, parameters = ConvNetFeatures(NETWORK, TorchBlocks()), doubles()
    whole = features(parameters, images(7))
    monkeypatch.setattr("trainer.objectives.inner.layer_features.images_at_once", lambda network, device: 1)
    assert_close(features(parameters, images(7)), whole, terms=TERMS)
    assert descent.images_at_once(NETWORK, torch.device("cpu")) > 7


def test_other_networks_have_the_features_of_their_last_layer() -> None:
    network = MLP(channels=2, height=8, width=10, classes=3, hidden=5, depth=1)
    features = layer_features(network, torch.device("cpu"))
    assert features == LastFeatures(network)
    (found,) = features(doubles(network), images(4))
    assert torch.equal(found, network.features(doubles(network), images(4)))


def test_the_loss_is_the_squared_distance_of_class_means_and_has_its_gradient(blocks: AbstractBlocks) -> None:
    parameters, recalled, real = doubles(), images(3, 2), images(3, 5, seed=2)
    objective = DistributionMatching(
        features=ConvNetFeatures(NETWORK, blocks), networks=FreshNetworks(NETWORK), real_per_class=5
    )

    def loss(recalled: Tensor) -> Tensor:
        return objective.compare(batch(recalled, real), parameters, torch.Generator().manual_seed(0))

    expected = 0.0
    for label in range(3):
        means = [blocks_of(parameters, part[label])[-1].sum(0) / part.shape[1] for part in (recalled, real)]
        expected += float(((means[0] - means[1]) ** 2).sum())
    assert_close(loss(recalled).item(), expected, terms=TERMS)
    assert gradcheck(loss, recalled.requires_grad_(), fast_mode=True)


def test_both_sides_of_a_class_are_augmented_alike_and_classes_independently() -> None:
    same = images(1, 1).expand(3, 4, -1, -1, -1)
    pairs = list(class_pairs(batch(same, same), ("color|crop|rotate",), torch.Generator().manual_seed(0)))
    for pair in pairs:
        assert torch.equal(pair.items, pair.real)
        assert torch.equal(pair.items, pair.items[:1].expand_as(pair.items))
    assert not torch.equal(pairs[0].items, pairs[1].items)
    assert [pair.targets.argmax(1).tolist() for pair in pairs] == [[label] * 4 for label in range(3)]


def test_real_items_are_matched_by_class_and_empty_classes_are_left_out() -> None:
    whole = batch(images(3, 2), images(3, 4, seed=2))
    order = torch.tensor([9, 0, 8, 1, 2])  # of the first class and the last
    mixed = OuterBatch(whole.recalled, whole.items[order], whole.targets[order])
    pairs = list(class_pairs(mixed, (), torch.Generator().manual_seed(0)))
    found = [torch.equal(pair.real, whole.items[index]) for pair, index in zip(pairs, ([0, 1, 2], [9, 8]), strict=True)]
    assert found == [True, True]
    assert torch.equal(pairs[1].items, whole.recalled.items[2])


def test_the_recalled_items_of_a_class_are_limited() -> None:
    recalled, real = images(2, 6), images(2, 3, seed=2)
    seen = set()
    for seed in range(20):
        for pair in class_pairs(batch(recalled, real), (), torch.Generator().manual_seed(seed), rows=2):
            assert (len(pair.items), len(pair.real)) == (2, 3)
            seen |= {float(item.sum()) for item in pair.items}
    assert len(seen) == 12, "all of them, over time"
