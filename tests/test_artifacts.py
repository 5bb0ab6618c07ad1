"""The committed bundles do what they claim, on real pictures: the larger checks run where RECALL_DATA has the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.networks import NetworkSpec
from recall_server.library.library import Library
from recall_server.recall.queries import label_queries
from tests.suite.needs import needs_fashion_mnist
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.evaluation.evaluate import Runs, evaluate_labels
from trainer.evaluation.few_shot.episodes import FewShot, draw_episode, evaluate_few_shot

BUNDLES = sorted((Path(__file__).parent.parent / "artifacts" / "bundles").glob("*.safetensors"))
CPU = torch.device("cpu")


def load(name: str) -> MemoryBundle:
    return MemoryBundle.load(next(path for path in BUNDLES if path.stem == name))


@pytest.fixture(scope="module")
def fashion_mnist() -> ImageDataset:
    return load_dataset("fashion-mnist")


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_every_bundle_states_its_data_and_its_accuracy(path: Path) -> None:
    bundle = MemoryBundle.load(path)
    assert bundle.manifest.name == path.stem
    assert "unknown" not in bundle.manifest.provenance.dataset_licence
    assert bundle.manifest.accuracy, "record it with `recall-trainer evaluate --record`"
    assert bundle.file_bytes is not None
    assert bundle.file_bytes < 400_000


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_every_encoder_exists_with_the_digest_in_its_bundle(path: Path) -> None:
    bundle = MemoryBundle.load(path)
    reference = bundle.manifest.query_encoder
    assert (reference is None) == (bundle.manifest.queries == "labels")
    if reference is not None:
        encoder = QueryEncoder(encoder_folder(path) / reference.file, reference.sha256, device="cpu")
        shape = bundle.manifest.image.shape
        assert encoder.encode(torch.rand(2, *shape).numpy()).shape == (2, bundle.memory.query_size)


def test_the_budget_of_fashion_mnist_is_one_image_per_class() -> None:
    manifest = load("fashion-mnist").manifest
    assert manifest.budget.numbers_stored * 4 <= 31_360
    assert manifest.budget.images_per_class == 1


@pytest.mark.parametrize("space", ["pixels", "features"])
def test_committed_memories_of_one_space_share_no_name(space: str) -> None:
    manifests = [MemoryBundle.load(path).manifest for path in BUNDLES]
    names = [
        name.casefold()
        for manifest in manifests
        if manifest.queries == "labels" and manifest.space == space
        for name in (*manifest.labels, *manifest.groups)
    ]
    assert sorted(set(names)) == sorted(names)


def test_cifar100_knows_its_superclasses_as_groups() -> None:
    manifest = load("cifar100").manifest
    assert len(manifest.groups) == 20
    assert set(manifest.groups["large carnivores"]) == {"bear", "leopard", "lion", "tiger", "wolf"}


def test_bear_and_deer_are_recalled_from_two_committed_memories() -> None:
    library = Library.load(BUNDLES[0].parents[1], device="cpu")
    queries = label_queries(library, ["bear", "deer"], None)
    assert [query.loaded.name for query in queries] == ["cifar100-features", "cifar10-features"]
    queries = label_queries(library, ["bear", "deer"], None, space="pixels")
    assert [query.loaded.name for query in queries] == ["cifar100", "cifar10"], "a sheet of images takes pixels"


def test_digits_train_a_fresh_network() -> None:
    bundle, digits = load("digits"), load_dataset("digits")
    accuracy = evaluate_labels(bundle, digits.test, Runs(bundle.manifest.retraining, [0], CPU))
    assert accuracy.mean > 0.85


@needs_fashion_mnist
def test_fashion_mnist_trains_a_narrower_network_than_its_own(fashion_mnist: ImageDataset) -> None:
    bundle = load("fashion-mnist")
    narrow = bundle.manifest.retraining.model_copy(update={"network": NetworkSpec(filters=32)})
    test = fashion_mnist.test.select(torch.arange(2000))
    assert evaluate_labels(bundle, test, Runs(narrow, [0], CPU)).mean > 0.7


@needs_fashion_mnist
def test_recall_by_five_pictures_beats_training_on_them_alone(
    fashion_mnist: ImageDataset,
) -> None:
    few_shot = FewShot.of_bundle(next(path for path in BUNDLES if path.stem == "fashion-mnist-images"), CPU)
    generator = torch.Generator().manual_seed(1)
    # On validation pictures: the test set is for the benchmark.
    episodes = [
        draw_episode(fashion_mnist.validation, fashion_mnist.classes, ways=2, shots=5, tests=200, generator=generator)
        for _ in range(4)
    ]
    results = evaluate_few_shot(few_shot, episodes)
    assert results["recalled"].mean > 0.85
    assert results["recalled"].mean > results["shots alone"].mean - 0.02
