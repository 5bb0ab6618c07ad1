"""A memory of features takes up classes: the old ones are told apart as before, the new ones are recognised."""

from __future__ import annotations

import torch
from torch import Tensor

from recall_server.core.memory import DescribedClasses
from recall_server.core.preprocessing import Standardise
from recall_server.core.training.retraining import Retraining
from tests.tolerances import assert_close
from trainer.starts.features.added_classes import with_classes
from trainer.starts.features.described_classes import Exact, best_exact
from trainer.starts.features.trained_features import Labelled

CLASSES, WIDTH, EACH = 6, 24, 80
SPACE = Standardise(torch.zeros(WIDTH), torch.ones(WIDTH))


def data(*classes: int, seed: int = 0) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(len(classes)).repeat_interleave(EACH)
    noise = torch.randn(len(labels), WIDTH, generator=generator)
    return Labelled(means[torch.tensor(classes)][labels] + noise, labels)


def made(*classes: int, bases: int = 12) -> Exact:
    numbers = bases * (WIDTH + 18 * len(classes))
    return best_exact(data(*classes), data(*classes, seed=1), SPACE, len(classes), numbers)


def weights(memory: DescribedClasses, schedule: Retraining) -> Tensor:
    """The head that one step of training gives."""
    vectors = memory.items(torch.eye(memory.query_size))[:, 0]
    found: Tensor = schedule.learning_rate / len(vectors) * (vectors - vectors.mean(dim=0))
    return found


def larger(*classes: int, further: int = 1) -> tuple[Tensor, Tensor, DescribedClasses]:
    """The heads of a memory of four classes before and after these were added."""
    before = made(0, 1, 2, 3)
    assert isinstance(before.memory, DescribedClasses)
    features = [data(each, seed=3).features - before.preprocessing.mean for each in classes]
    generator = torch.Generator().manual_seed(0)
    after = with_classes(
        before.memory, before.retraining, before.preprocessing, features, further_bases=further, generator=generator
    )
    return weights(before.memory, before.retraining), weights(*after), after.memory


def test_old_classes_are_told_from_each_other_as_before() -> None:
    before, after, _ = larger(4, 5)
    assert_close(after[:4] - after[0], before - before[0], terms=WIDTH, gain=100)


def test_all_classes_are_recognised_nearly_as_by_a_memory_of_all() -> None:
    _, after, _ = larger(4, 5, further=2)
    test = data(*range(CLASSES), seed=7)
    right = (test.features @ after.T).argmax(dim=1) == test.labels
    of_each = right.float().unflatten(0, (CLASSES, EACH)).mean(dim=1)
    assert float(of_each.min()) > 0.85, of_each


def test_the_new_class_is_described_as_the_others_are() -> None:
    _, _, memory = larger(4)
    assert memory.bases.shape == (13, WIDTH)
    assert_close(memory.bases @ memory.bases.T, torch.eye(13), terms=WIDTH, gain=10)
    mean = memory.typical(torch.eye(5))[4].mean(dim=0)
    expected = data(4, seed=3).features.mean(dim=0)
    assert float((mean - expected).norm()) < 0.2 * float(expected.norm()), "one basis holds what the mean has outside"
    assert bool((memory.deviations[:4, 12] == memory.deviations[4, 12]).all())


def test_features_within_the_span_add_no_bases() -> None:
    before = made(0, 1, 2, 3, bases=WIDTH)
    assert isinstance(before.memory, DescribedClasses)
    after = with_classes(
        before.memory,
        before.retraining,
        before.preprocessing,
        [data(4).features],
        further_bases=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert len(after.memory.bases) == WIDTH
