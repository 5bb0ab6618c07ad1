"""Heads from a few pictures: against scikit-learn, and the way that leave-one-out chooses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from recall_server.core.classifier.class_statistics import ClassStatistics, LinearHead, TwoCovariances
from recall_server.recall.features import few_shot
from recall_server.recall.features.few_shot import HeadWay, few_shot_head, left_out, logistic, nearest_mean, recalled

WIDTH = 16


def known(seed: int = 0) -> TwoCovariances:
    """Classes that differ in the first four features and vary in the last four."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.zeros(30, WIDTH)
    means[:, :4] = torch.randn(30, 4, generator=generator)
    labels = torch.arange(3000) % 30
    return TwoCovariances(ClassStatistics.of_features(means[labels] + noise(3000, generator), labels, 30, 8))


def noise(count: int, generator: torch.Generator) -> Tensor:
    scales = torch.cat([torch.full((12,), 0.2), torch.full((4,), 2.0)])
    return scales * torch.randn(count, WIDTH, generator=generator)


def task(shots: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures of four new classes with labels, and 200 others with theirs."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.zeros(4, WIDTH)
    means[:, :4] = torch.randn(4, 4, generator=generator)
    labels, others = torch.arange(4).repeat_interleave(shots), torch.arange(200) % 4
    return means[labels] + noise(len(labels), generator), labels, means[others] + noise(200, generator), others


def right(head: few_shot.FewShotHead, features: Tensor, labels: Tensor) -> float:
    return float((head.head.logits(features).argmax(dim=1) == labels).float().mean())


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    features, labels, others, _ = task(5, 0)
    features, others = normalize(features, dim=1), normalize(others, dim=1)
    head = logistic(features, one_hot(labels).float())
    reference = LogisticRegression(C=few_shot.STRENGTH, tol=1e-8).fit(features.numpy(), labels.numpy())
    found = head.logits(others).softmax(dim=1).numpy()
    # scikit-learn does not regularise the bias, which balanced classes leave near zero
    assert np.abs(found - reference.predict_proba(others.numpy())).max() < 0.03


@pytest.mark.parametrize("shots", [1, 5])
def test_recalled_features_help_with_unseen_classes(shots: int) -> None:
    model = known()
    gains = []
    for seed in range(20):
        features, labels, others, truth = task(shots, seed)
        alone = right(few_shot_head(features, labels, model, "pictures"), others, truth)
        gains.append(right(few_shot_head(features, labels, model, "recalled"), others, truth) - alone)
    assert np.mean(gains) > 0.1


def test_leave_one_out_equals_heads_of_all_other_pictures() -> None:
    features, labels, _, _ = task(3, 1)
    model = known()
    for make in (nearest_mean, logistic, lambda pictures, members: recalled(pictures, members, model)):
        expected = []
        for position in range(len(labels)):
            rest = torch.arange(len(labels)) != position
            head = make(features[rest], one_hot(labels[rest]).float())
            expected.append(float(head.logits(features[position : position + 1]).argmax() == labels[position]))
        assert left_out(features, labels, one_way(make))["pictures"].tolist() == expected


def test_a_class_of_more_pictures_is_not_preferred() -> None:
    features = torch.tensor([[1.0, 0.1], [1.0, 0.1], [1.0, -0.1]])
    head = logistic(features, one_hot(torch.tensor([0, 0, 1])).float())
    assert head.logits(torch.tensor([[1.0, 0.1], [1.0, -0.1]])).argmax(dim=1).tolist() == [0, 1]


def one_way(make: Callable[[Tensor, Tensor], LinearHead]) -> Callable[[Tensor, Tensor], dict[HeadWay, LinearHead]]:
    return lambda features, members: {"pictures": make(features, members)}


def test_of_many_pictures_a_tenth_of_each_class_is_left_out_at_a_time() -> None:
    features, labels, _, _ = task(30, 1)
    asked = []

    def make(pictures: Tensor, members: Tensor) -> LinearHead:
        asked.append(members)
        return nearest_mean(pictures, members)

    right = left_out(features, labels, one_way(make))["pictures"]
    assert right.shape == (120,)
    assert asked[0].sum(dim=1).tolist() == [[27.0] * 4] * few_shot.FOLDS


def test_auto_reports_the_score_of_each_way() -> None:
    features, labels, _, _ = task(5, 2)
    found = few_shot_head(features, labels, known())
    assert set(found.scores) == {"pictures", "prototypes", "recalled", "together"}
    assert found.scores[found.way] >= found.scores["together"]


def test_with_single_pictures_auto_uses_the_default() -> None:
    features, labels, _, _ = task(1, 3)
    found = few_shot_head(features, labels, known())
    assert (found.way, found.scores) == ("together", {})


def test_without_a_memory_only_pictures_and_prototypes_are_compared() -> None:
    features, labels, _, _ = task(5, 4)
    assert set(few_shot_head(features, labels, None).scores) == {"pictures", "prototypes"}
    with pytest.raises(ValueError, match="need what a memory"):
        few_shot_head(features, labels, None, "recalled")
