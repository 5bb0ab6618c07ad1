"""Heads of memories that describe their classes: restricted, joined with others', and joined with pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.manifest import Budget, EncoderReference
from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.fresh_classifier import FreshClassifier
from recall_server.core.memory import AddressedBases, StoredItems
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from recall_server.recall import BundleQuery, build_training_set
from recall_server.recall.joined_head import HeadSource, joined_head
from recall_server.recall.stored_heads import head_source, head_with_pictures, stored_head
from tests.recall_server.bundle_examples import example_manifest
from tests.tolerances import assert_close
from trainer.starts.features.described_classes import best_exact
from trainer.starts.features.trained_features import Labelled

WIDTH, EACH = 32, 60
MEANS = torch.nn.functional.normalize(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0)).abs(), dim=1)


def features(label: int, count: int = EACH, seed: int = 0) -> Tensor:
    """[count, D] of length one."""
    generator = torch.Generator().manual_seed(10 * seed + label)
    return torch.nn.functional.normalize(MEANS[label] + 0.12 * torch.randn(count, WIDTH, generator=generator), dim=1)


def made(name: str, memory: Any, space: Standardise, schedule: Retraining, labels: tuple[str, ...]) -> MemoryBundle:
    manifest = example_manifest(
        memory,
        space,
        name=name,
        labels=labels,
        retraining=schedule,
        space="features",
        feature_encoder=EncoderReference(file="e.onnx", sha256="0" * 64, query_size=WIDTH),
        budget=Budget(images_per_class=100, numbers_stored=memory.stored_numbers(), dataset_bytes=64_000),
    )
    return MemoryBundle(manifest, memory, space)


def described(name: str, labels: list[int], *, shifted: bool = False) -> MemoryBundle:
    """A memory of these classes; in a space of its own where it is `shifted`."""
    mean = torch.linspace(0, 0.1, WIDTH) if shifted else torch.zeros(WIDTH)
    space = Standardise(mean, torch.full((WIDTH,), 0.3 if shifted else WIDTH**-0.5))
    own = torch.cat([features(label) for label in labels])
    seen = space.to_model(own[:, :, None, None])[:, :, 0, 0]
    data = Labelled(seen, torch.arange(len(labels)).repeat_interleave(EACH))
    found = best_exact(data, data, space, len(labels), numbers=10_000)
    names = tuple(f"class {label}" for label in labels)
    return made(name, found.memory, found.preprocessing, found.retraining, names)


def queries(*asked: tuple[MemoryBundle, str]) -> list[BundleQuery]:
    return [BundleQuery(bundle, bundle.label_queries([label])[0]) for bundle, label in asked]


def classifier(asked: list[BundleQuery]) -> FreshClassifier:
    """As a server trains it."""
    met = build_training_set(asked)
    trained = FreshClassifier(list(map(str, range(len(asked)))), (WIDTH, 1, 1), met.preprocessing, met.retraining)
    return trained.fit(met.images, met.targets)


def right(trained: FreshClassifier, labels: list[int]) -> float:
    tests = torch.cat([features(label, seed=1) for label in labels])
    predicted = trained.predict_probabilities(tests[:, :, None, None]).argmax(dim=1)
    return float((predicted == torch.arange(len(labels)).repeat_interleave(EACH)).float().mean())


def test_some_classes_of_one_memory_have_the_columns_of_its_head() -> None:
    bundle = described("one", [0, 1, 2, 3], shifted=True)
    asked = queries((bundle, "class 3"), (bundle, "class 1"))
    head = stored_head(bundle, torch.stack([query.vector for query in asked]))
    pictures = features(1, seed=2)
    found = classifier(asked).predict_probabilities(pictures[:, :, None, None])
    assert_close(found, head.logits(pictures).softmax(dim=1), terms=1000, gain=30)


def test_the_stored_head_is_over_the_features_of_the_encoder_in_any_space() -> None:
    for shifted in (False, True):
        bundle = described("any", [0, 1, 2], shifted=shifted)
        head = stored_head(bundle, torch.eye(3))
        own = torch.cat([features(label) for label in (0, 1, 2)])
        assert (head.logits(own).argmax(dim=1) == torch.arange(3).repeat_interleave(EACH)).float().mean() > 0.95


def test_classes_of_two_memories_are_told_apart_better_than_by_their_heads_side_by_side() -> None:
    one, other = described("one", [0, 1, 2]), described("other", [3, 4, 5], shifted=True)
    asked = queries((one, "class 0"), (other, "class 3"), (one, "class 1"), (other, "class 4"))
    joined = right(classifier(asked), [0, 3, 1, 4])
    heads = [stored_head(query.bundle, query.vector.unsqueeze(0)) for query in asked]
    tests = torch.cat([features(label, seed=1) for label in (0, 3, 1, 4)])
    logits = torch.cat([head.logits(tests) for head in heads], dim=1)
    stitched = float((logits.argmax(dim=1) == torch.arange(4).repeat_interleave(EACH)).float().mean())
    assert joined > 0.9
    assert joined >= stitched


def test_a_memory_that_only_recalls_vectors_joins_those_that_describe_their_classes() -> None:
    one, space = described("one", [0, 1, 2]), Standardise(torch.zeros(WIDTH), torch.full((WIDTH,), 0.5))
    items = torch.stack([features(label, 3) for label in (4, 5)])
    memory = StoredItems(space.to_model(items.flatten(0, 1)[:, :, None, None])[:, :, 0, 0].view_as(items))
    other = made("other", memory, space, one.manifest.retraining, ("class 4", "class 5"))
    asked = queries((other, "class 5"), (one, "class 2"), (one, "class 0"), (other, "class 4"))
    assert right(classifier(asked), [5, 2, 0, 4]) > 0.85


def test_a_class_of_pictures_joins_classes_of_a_memory() -> None:
    bundle = described("one", [0, 1, 2, 3])
    known = head_source(bundle, bundle.label_queries(["class 0", "class 2"]))
    head = joined_head([known, HeadSource(features(5, 10), torch.zeros(10, dtype=torch.long), 1)])
    tests = torch.cat([features(label, seed=1) for label in (0, 2, 5)])
    found = head.logits(tests).argmax(dim=1) == torch.arange(3).repeat_interleave(EACH)
    assert found.float().mean() > 0.9


def test_pictures_of_a_class_of_a_memory_add_to_what_is_typical_of_it() -> None:
    one, other = described("one", [0, 1]), described("other", [2, 3], shifted=True)
    asked = [(query.bundle, query.vector) for query in queries((other, "class 2"), (one, "class 1"), (one, "class 0"))]
    classes = [2, 1, 0, 5]  # the last of them is of pictures alone
    tests = torch.cat([features(label, seed=1) for label in (*classes, 4)])
    found = []
    for like in (5, 4):  # pictures of the new class, and of class 1 as it looks elsewhere
        pictures = torch.cat([features(5, 10), features(like, 10, seed=2)])
        labels = torch.tensor([3] * 10 + [3 if like == 5 else 1] * 10)
        head = head_with_pictures(asked, HeadSource(pictures, labels, len(classes)))
        found.append(head.logits(tests).argmax(dim=1).view(-1, EACH))
    for predicted in found:
        assert (predicted[:4] == torch.arange(4)[:, None]).float().mean() > 0.9
    before, after = ((predicted[4] == 1).float().mean() for predicted in found)
    assert after > before + 0.3


def test_a_single_source_with_a_head_keeps_what_tells_its_classes_apart() -> None:
    bundle = described("one", [0, 1, 2, 3])
    known = head_source(bundle, torch.eye(4))
    assert known.head is not None
    alone = LinearHead(known.head.weights, known.head.bias)
    joined = joined_head([known, HeadSource(features(5, 10), torch.zeros(10, dtype=torch.long), 1)])
    tests = torch.cat([features(label, seed=1) for label in range(4)])
    same = joined.logits(tests)[:, :4].argmax(dim=1) == alone.logits(tests).argmax(dim=1)
    assert same.float().mean() > 0.95


def test_a_head_of_low_rank_is_joined_as_it_is() -> None:
    one, space = described("one", [0, 1, 2]), Standardise(torch.zeros(WIDTH), torch.full((WIDTH,), WIDTH**-0.5))
    own = torch.cat([features(label) for label in (3, 4, 5)])
    data = Labelled(space.to_model(own[:, :, None, None])[:, :, 0, 0], torch.arange(3).repeat_interleave(EACH))
    found = best_exact(data, data, space, 3, numbers=2 * (WIDTH + 3))
    assert isinstance(found.memory, AddressedBases)
    small = made("small", found.memory, found.preprocessing, found.retraining, ("class 3", "class 4", "class 5"))
    assert right(classifier(queries((small, "class 3"), (one, "class 0"), (small, "class 5"))), [3, 0, 5]) > 0.85
    assert right(classifier(queries((small, "class 3"), (small, "class 5"))), [3, 5]) > 0.95
