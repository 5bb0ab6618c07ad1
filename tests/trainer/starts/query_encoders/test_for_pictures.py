"""The start of a memory addressed by pictures: closed forms against what they promise."""

from __future__ import annotations

import torch

from recall_server.core.networks import ConvNet
from tests.tolerances import assert_close
from trainer.data.datasets import ImageDataset
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode
from trainer.methods.method import Method
from trainer.methods.named import compose
from trainer.methods.specs.budget import MemoryBudget
from trainer.methods.specs.problem import Problem
from trainer.objectives.components import Components
from trainer.run.setup.build import fit_preprocessing
from trainer.starts.eigenvectors import principal_start
from trainer.starts.query_encoders.for_pictures import (
    RIDGE,
    aligned,
    discriminant_layer,
    principal_layer,
    regressed,
    start_by_pictures,
)
from trainer.starts.training_data import TrainingData

CPU = torch.device("cpu")
SMALL = [
    "objective.network=convnet:filters=8,depth=2",
    "queries.encoder=convnet:filters=8,depth=2",
    "queries.size=6",
    "objective.classes_per_step=2",
]


def built(data: ImageDataset, method: Method, seed: int = 0) -> Components:
    generator = torch.Generator().manual_seed(seed)
    preprocessing = fit_preprocessing(data, method)
    return method.build(Problem(data, preprocessing, generator, CPU), MemoryBudget(4, 4, 3))


def nearest_classes(data: ImageDataset, made: Components, method: Method) -> float:
    """How often what a class's pictures recall is nearer to real pictures of that class than of the other ones."""
    preprocessing = fit_preprocessing(data, method)
    few_shot = FewShot(
        made.memory,
        preprocessing,
        method.retraining,
        encode=lambda pixels: made.queries.encode(preprocessing.to_model(pixels)),
        device=CPU,
    )
    generator = torch.Generator().manual_seed(0)
    ways = len(data.classes)
    right = []
    with torch.no_grad():
        for _ in range(5):
            episode = draw_episode(data.test, data.classes, ways=ways, shots=5, tests=4 * ways, generator=generator)
            recalled = few_shot.by_pictures(episode).mean(dim=1).flatten(1)
            real = preprocessing.to_model(episode.test.pixels()).flatten(1)
            means = torch.stack([real[episode.test.labels == label].mean(dim=0) for label in range(ways)])
            right.append(torch.cdist(recalled, means).argmin(dim=1) == torch.arange(ways))
    return float(torch.cat(right).float().mean())


def test_the_start_recalls_pictures_similar_to_its_class(bars_dataset: ImageDataset) -> None:
    from_pictures = compose("image-addressing", SMALL)
    from_noise = compose("image-addressing", [*SMALL, "start=noise"])
    assert nearest_classes(bars_dataset, built(bars_dataset, from_pictures), from_pictures) > 0.9
    assert nearest_classes(bars_dataset, built(bars_dataset, from_noise), from_noise) < 0.7


def test_the_same_seed_gives_the_same_start(bars_dataset: ImageDataset) -> None:
    method = compose("image-addressing", SMALL)
    one, same, other = (built(bars_dataset, method, seed).tensors() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["addressing"], other["addressing"])


def test_an_encoder_with_too_few_features_keeps_its_last_layer(bars_dataset: ImageDataset) -> None:
    method = compose("image-addressing", SMALL)
    preprocessing = fit_preprocessing(bars_dataset, method)
    generator = torch.Generator().manual_seed(0)
    encoder = ConvNet(channels=1, height=8, width=8, classes=40, filters=2, depth=2)
    parameters = encoder.initialise(generator)
    data = TrainingData(bars_dataset.train, preprocessing, generator)
    start = principal_start(data, classes=bars_dataset.classes, bases=4, rows=2)
    memory, after = start_by_pictures(start, encoder, parameters, data, shots=1)
    assert torch.equal(after["classifier.weight"], parameters["classifier.weight"])
    assert memory.query_size == 40
    assert bool(memory.addressing.isfinite().all())


def test_the_principal_layer_gives_components_of_mean_square_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 3
    layer = principal_layer(features, 5)
    vectors = (features @ layer["classifier.weight"].T + layer["classifier.bias"]).double()
    assert_close(vectors.mean(dim=0), torch.zeros(5, dtype=torch.float64), terms=200, size=1, dtype=torch.float32)
    assert_close(vectors.square().mean(), torch.ones((), dtype=torch.float64), terms=200, dtype=torch.float32)
    products = vectors.T @ vectors / len(vectors)
    assert_close(products, products.diagonal().diag(), terms=200, dtype=torch.float32)
    variances = torch.linalg.svdvals((features - features.mean(dim=0)).double())[:5].square()
    assert_close(products.diagonal() / products.trace(), variances / variances.sum(), terms=200, dtype=torch.float32)


def test_alignment_reorders_rows_and_brings_them_closer() -> None:
    generator = torch.Generator().manual_seed(0)
    typical = 5 * torch.randn(4, 1, 6, generator=generator)
    coefficients = (typical + torch.randn(4, 7, 6, generator=generator)).clone()
    shuffled = torch.stack([each[torch.randperm(4, generator=generator)] for each in coefficients.unbind(1)], dim=1)
    ordered = aligned(shuffled)
    for label in range(7):
        assert torch.equal(ordered[:, label].sort(dim=0).values, coefficients[:, label].sort(dim=0).values)
    assert float(ordered.var(dim=1).mean()) < 1.5 < float(shuffled.var(dim=1).mean())


def test_addressing_is_the_ridge_regression_of_coefficients_on_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 5, 4, generator=generator)
    queries = torch.randn(20, 1, 5, generator=generator)
    coefficients = torch.einsum("cd,rdk->rck", queries[:, 0], matrices)
    products = queries[:, 0].T @ queries[:, 0]
    shrinks = RIDGE * float(products.diagonal().mean() / torch.linalg.eigvalsh(products)[0])  # by no more than that
    assert (regressed(queries, coefficients) - matrices).norm() <= shrinks * matrices.norm()


def test_discriminants_separate_classes_that_principal_components_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(100)
    features = torch.randn(300, 5, generator=generator)
    features[:, 3] *= 50  # says nothing of the class
    features[:, 1] += 3 * labels
    layer = discriminant_layer(features, labels, 2)
    seen = features @ layer["classifier.weight"].T + layer["classifier.bias"]
    assert_close(seen.square().mean(), torch.ones(()), terms=300)
    assert_close(seen.mean(dim=0), torch.zeros(2), terms=300, size=1)

    def apart(vectors: torch.Tensor) -> float:
        means = torch.stack([vectors[labels == label].mean(dim=0) for label in range(3)])
        return float((torch.cdist(vectors, means).argmin(dim=1) == labels).float().mean())

    other = principal_layer(features, 2)
    assert apart(seen) > 0.75
    assert apart(features @ other["classifier.weight"].T) < 0.5
