"""Networks that are trained together end like networks that are trained alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.networks import NetworkSpec, build_network
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.errors import NotFitted, TrainingFailed
from tests.tolerances import assert_close
from trainer.evaluation.few_shot.many_networks import ManyNetworks, can_train_together, many_logits

CPU = torch.device("cpu")
SHAPE = (3, 10, 8)
PLAIN = Standardise(torch.zeros(3), torch.ones(3))
SMALL = NetworkSpec(filters=5, depth=2)
TERMS = 12 * 9 * 512  # steps, and products of a resnet's last convolutions, the longest sum


def schedule(**changed: object) -> Retraining:
    fields = {"network": SMALL, "steps": 12, "learning_rate": 0.05, "rows_per_class": 3} | changed
    return Retraining.model_validate(fields)


def recalled(networks: int, rows: int = 7) -> Tensor:
    return torch.randn(networks, 2, rows, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "retraining",
    [
        schedule(),
        schedule(decay="cosine", momentum=0.5),
        schedule(augmentation="flip"),
        schedule(augmentation="flip+rotate", decay="cosine"),
        schedule(augmentation="color+crop+cutout", decay="tenth", weight_decay=0.1),
        schedule(rows_per_class=50),
        schedule(order="sequence", augmentation="flip", rates=(0.1, 0.02, 0.05)),
        schedule(network=NetworkSpec.parse("alexnet"), steps=2),
        schedule(network=NetworkSpec(filters=5, depth=2, shrink=2)),
    ],
    ids=str,
)
def test_networks_trained_together_equal_fresh_classifiers(retraining: Retraining) -> None:
    shape = (3, 32, 32) if retraining.network.architecture == "alexnet" else SHAPE
    images = torch.randn(3, 2, 7, *shape, generator=torch.Generator().manual_seed(1))
    seeds, targets, network = [4, 9, 4], torch.eye(2), build_network(retraining.network, shape, 2)
    together = ManyNetworks(network, retraining, seeds, device=CPU).fit(images, targets)
    pictures = torch.rand(3, 11, *shape, generator=torch.Generator().manual_seed(2))
    found = together.logits(pictures).softmax(dim=2)
    for index, seed in enumerate(seeds):
        alone = FreshClassifier(("a", "b"), shape, PLAIN, retraining, seed=seed).fit(images[index], targets)
        assert_close(found[index], alone.predict_probabilities(pictures[index]), terms=TERMS, size=1)


def test_networks_with_pretrained_layers_equal_fresh_classifiers_with_them() -> None:
    warm, targets = schedule(initial="encoder"), torch.eye(2)
    learned = all_but_the_last(build_network(SMALL, SHAPE, 7).initialise(torch.Generator().manual_seed(3)))
    together = ManyNetworks(build_network(SMALL, SHAPE, 2), warm, [4, 9], device=CPU)
    together.fit(recalled(2), targets, pretrained=learned)
    pictures = torch.rand(2, 11, *SHAPE, generator=torch.Generator().manual_seed(2))
    found = together.logits(pictures).softmax(dim=2)
    for index, seed in enumerate([4, 9]):
        alone = FreshClassifier(("a", "b"), SHAPE, PLAIN, warm, seed=seed)
        alone.fit(recalled(2)[index], targets, pretrained=learned)
        assert_close(found[index], alone.predict_probabilities(pictures[index]), terms=TERMS, size=1)


def test_logits_and_gradients_equal_those_of_single_networks_in_float64() -> None:
    network = build_network(SMALL, SHAPE, 2)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    each = [
        {name: value.double().requires_grad_() for name, value in network.initialise(generator).items()}
        for generator in generators
    ]
    images = torch.randn(3, 4, *SHAPE, dtype=torch.float64, generator=generators[0])
    stacked = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    together = many_logits(network, stacked, images)
    alone = torch.stack([network.logits(one, some) for one, some in zip(each, images, strict=True)])
    assert_close(together, alone, terms=TERMS)
    for name in ("block0.convolution.weight", "block1.convolution.weight", "block0.norm.scale", "classifier.bias"):
        leaves = [one[name] for one in each]
        for found, wanted in zip(
            torch.autograd.grad(together.square().sum(), leaves, retain_graph=True),
            torch.autograd.grad(alone.square().sum(), leaves, retain_graph=True),
            strict=True,
        ):
            assert_close(found, wanted, terms=TERMS)


def test_convolutions_in_bfloat16_give_similar_results() -> None:
    network, images = build_network(SMALL, SHAPE, 2), recalled(2)
    exact = ManyNetworks(network, schedule(), [0, 1], device=CPU).fit(images, torch.eye(2))
    coarse = ManyNetworks(replace(network, convolution_dtype=torch.bfloat16), schedule(), [0, 1], device=CPU)
    coarse.fit(images, torch.eye(2))
    pictures = torch.rand(2, 20, *SHAPE, generator=torch.Generator().manual_seed(2))
    assert coarse.parameters(1)["block0.convolution.weight"].dtype == torch.float32
    assert_close(coarse.logits(pictures), exact.logits(pictures), terms=12, dtype=torch.bfloat16)


def test_invalid_trainings_are_refused_with_a_sentence() -> None:
    network = build_network(SMALL, SHAPE, 2)
    many = ManyNetworks(network, schedule(), [0, 1], device=CPU)
    with pytest.raises(NotFitted):
        many.logits(torch.zeros(2, 1, *SHAPE))
    with pytest.raises(ValueError, match=r"must be \[2, queries, rows, 3, 10, 8\], not \[3, 2, 7, 3, 10, 8\]"):
        many.fit(recalled(3), torch.eye(2))
    with pytest.raises(ValueError, match=r"targets must be \[2, 2\]"):
        many.fit(recalled(2), torch.eye(3))
    with pytest.raises(ValueError, match="at least one seed"):
        ManyNetworks(network, schedule(), [], device=CPU)
    residual = build_network(NetworkSpec.parse("resnet"), (3, 32, 32), 2)
    assert not can_train_together(residual, schedule())
    assert not can_train_together(network, schedule(augmentation="dsa")), "one operation for a whole minibatch"
    with pytest.raises(ValueError, match="ResNet cannot be trained so by this schedule; train them one by one"):
        ManyNetworks(residual, schedule(), [0], device=CPU)


def test_networks_that_diverge_are_counted() -> None:
    images = recalled(2)
    images[1] *= torch.nan
    with pytest.raises(TrainingFailed, match="1 of 2 networks diverged"):
        ManyNetworks(build_network(SMALL, SHAPE, 2), schedule(), [0, 1], device=CPU).fit(images, torch.eye(2))
