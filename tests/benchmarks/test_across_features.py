"""Tasks across memories of features, on a few made-up classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.across_features import Known, across, added, known, summary
from benchmarks.few_shot_features import Pictures
from trainer.data.splits import ImageDataset, Split

WIDTH, EACH = 48, 60


def part(means: Tensor, seed: int) -> Split:
    """Features of length one, around each of the means."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(means)).repeat_interleave(EACH)
    features = normalize(means[labels] + 0.1 * torch.randn(len(labels), WIDTH, generator=generator), dim=1)
    return Split(features[:, :, None, None].half(), labels)


def memory(first: int, classes: int) -> tuple[Known, tuple[Pictures, Pictures]]:
    """A memory of all classes but the last, and the training and test pictures of that one."""
    generator = torch.Generator().manual_seed(first)
    means = normalize(torch.rand(classes, WIDTH, generator=generator), dim=1)
    names = tuple(f"class {first + index}" for index in range(classes))
    train, validation, test = (part(means, first + seed) for seed in range(3))
    dataset = ImageDataset("made up", names, train, validation, test, "0" * 64, "none")
    last = [
        Pictures(each.images[each.labels == classes - 1].flatten(1).float(), torch.full((EACH,), classes - 1))
        for each in (dataset.train, dataset.test)
    ]
    return known(dataset, torch.arange(classes - 1), "test", 10), (last[0], last[1])


def test_classes_of_two_memories_and_of_pictures_are_told_apart() -> None:
    (one, _), (other, unseen) = memory(0, 5), memory(10, 6)
    generator = torch.Generator().manual_seed(0)
    figures = summary([across([one, other], torch.arange(5), number, generator) for number in range(3)])
    assert set(figures) >= {"joined", "side_by_side", "real_probe", "joined_over_side_by_side"}
    assert figures["joined"][0] > 80
    more = summary([added([one, other], torch.arange(5), unseen, generator) for _ in range(3)])
    assert set(more) >= {"joined", "side_by_side", "pictures", "joined_over_pictures"}
    assert more["joined"][0] > 80
