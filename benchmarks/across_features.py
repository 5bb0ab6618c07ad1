"""Classes of two memories of features, and of a few pictures, in one classifier: beside heads side by side.

    python -m benchmarks.across_features --encoder FILE.onnx [--tasks 600] [--split test|validation] [--quick]

across   five-way tasks: two or three classes of CIFAR-10, the others of CIFAR-100 without classes that are alike
added    two classes of CIFAR-10, two of CIFAR-100, and one of the 20 that its memory does not know, of 20 pictures

The memories are made of training pictures in the run, with the numbers of `--images-per-class` pictures, as int8; the
second knows 80 classes of CIFAR-100. `joined` is what a server answers with, `side_by_side` the stored heads; beside
them class means and, for `across`, a probe trained on 450 real features of each class. For `added`, a class without a
head gets a column from the means to stand side by side: the difference to the mean of the others, as long as their
columns are on average, with the bias halfway. `pictures` is logistic regression on the 20 pictures and the centres of
the other classes. Each task has 50 pictures of each class. Accuracies in per cent with 95 % intervals; `over_X` is the
paired difference to X. --quick: 20 tasks. The last line is JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.command import add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.few_shot_features import SIMILAR, Pictures, flat, interval
from benchmarks.memories_of_classes import memory_of_classes, of_classes
from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.recall.features.few_shot import logistic
from recall_server.recall.joined_head import HeadSource, joined_head
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.starts.features.linear_head import softmax_head

HELD_OUT = 20  # classes of CIFAR-100
SHOWN, TESTS, REAL = 20, 50, 450  # pictures of a class
PROBE_RIDGE = 0.03


class Known(NamedTuple):
    """Classes `chosen` of a data set, what a memory holds of them, and their pictures to train and to test on."""

    chosen: Tensor
    head: LinearHead
    typical: Tensor  # [C, r, D]
    train: Pictures
    test: Pictures

    def source(self, classes: Tensor) -> HeadSource:
        """Some classes, which count from 0 in `chosen`."""
        rows = self.typical[classes]
        labels = torch.arange(len(classes)).repeat_interleave(rows.shape[1])
        return HeadSource(
            rows.flatten(0, 1), labels, len(classes), LinearHead(self.head.weights[classes], self.head.bias[classes])
        )


def known(dataset: ImageDataset, chosen: Tensor, split: str, images_per_class: float) -> Known:
    """A memory of these classes, as a server reads it."""
    made = memory_of_classes(dataset, chosen, images_per_class)
    train, test = (Pictures(*of_classes(part, chosen)) for part in (dataset.train, getattr(dataset, split)))
    deviation = dataset.train.images.shape[1] ** -0.5  # of features of length one
    queries = torch.eye(len(chosen))
    step = made.retraining.learning_rate / len(chosen) / deviation
    head = LinearHead(step * made.memory.items(queries)[:, 0], torch.zeros(len(chosen)))
    return Known(chosen, head, made.memory.typical(queries) * deviation, train, test)


def drawn(pictures: Pictures, label: int, count: int, generator: torch.Generator) -> Tensor:
    members = torch.nonzero(pictures.labels == label).flatten()
    return pictures.features[members[torch.randperm(len(members), generator=generator)[:count]]]


def nearest(means: Tensor) -> LinearHead:
    return LinearHead(means, -means.square().sum(dim=1) / 2)


def side_by_side(sources: Sequence[HeadSource]) -> LinearHead:
    heads = [source.head for source in sources if source.head is not None]
    return LinearHead(torch.cat([head.weights for head in heads]), torch.cat([head.bias for head in heads]))


def with_mean_column(head: LinearHead, means: Tensor) -> LinearHead:
    """A column for the last of the means [k + 1, D] beside a head of the other classes."""
    centred = head.weights - head.weights.mean(dim=0)
    rest, own = means[:-1].mean(dim=0), means[-1]
    column = (own - rest) / (own - rest).norm() * centred.norm(dim=1).mean()
    bias = -(column @ (own + rest) / 2).unsqueeze(0)
    return LinearHead(torch.cat([centred, column.unsqueeze(0)]), torch.cat([head.bias, bias]))


def means_of(sources: Sequence[HeadSource]) -> Tensor:
    parts = []
    for source in sources:
        members = one_hot(source.labels, source.classes).float()
        parts.append((members / members.sum(dim=0)).T @ source.typical)
    return torch.cat(parts)


def probe(features: Sequence[Tensor]) -> LinearHead:
    labels = torch.arange(len(features)).repeat_interleave(torch.tensor([len(each) for each in features]))
    scale = features[0].shape[1] ** 0.5
    found = softmax_head(torch.cat(list(features)) * scale, labels, len(features), PROBE_RIDGE, bias=False)
    return LinearHead(found.weights * scale, found.bias)


def across(memories: Sequence[Known], allowed: Tensor, number: int, generator: torch.Generator) -> dict[str, float]:
    """The accuracies of one task."""
    first = 2 + number % 2
    classes = [
        torch.randperm(len(memories[0].chosen), generator=generator)[:first],
        allowed[torch.randperm(len(allowed), generator=generator)[: 5 - first]],
    ]
    asked = [(memory, label) for memory, some in zip(memories, classes, strict=True) for label in some.tolist()]
    sources = [memory.source(some) for memory, some in zip(memories, classes, strict=True)]
    heads = {
        "joined": joined_head(sources),
        "side_by_side": side_by_side(sources),
        "class_means": nearest(means_of(sources)),
        "real_probe": probe([drawn(memory.train, label, REAL, generator) for memory, label in asked]),
    }
    return _measured(heads, [drawn(memory.test, label, TESTS, generator) for memory, label in asked])


def added(
    memories: Sequence[Known], allowed: Tensor, unseen: tuple[Pictures, Pictures], generator: torch.Generator
) -> dict[str, float]:
    """The accuracies of one task. `unseen` are the training and test pictures of classes that no memory knows."""
    classes = [
        torch.randperm(len(memories[0].chosen), generator=generator)[:2],
        allowed[torch.randperm(len(allowed), generator=generator)[:2]],
    ]
    train, test = unseen
    labels = torch.unique(train.labels)
    own = int(labels[torch.randint(len(labels), (), generator=generator)])
    shown = HeadSource(drawn(train, own, SHOWN, generator), torch.zeros(SHOWN, dtype=torch.long), 1)
    sources = [*(memory.source(some) for memory, some in zip(memories, classes, strict=True)), shown]
    typical = torch.cat([source.typical for source in sources])
    offsets = torch.tensor([0, 2, 4]).repeat_interleave(torch.tensor([len(source.labels) for source in sources]))
    members = one_hot(torch.cat([source.labels for source in sources]) + offsets).float()
    heads = {
        "joined": joined_head(sources),
        "side_by_side": with_mean_column(side_by_side(sources), means_of(sources)),
        "class_means": nearest(means_of(sources)),
        "pictures": logistic(typical, members / members.sum(dim=0) * SHOWN),
    }
    tests = [
        drawn(memory.test, label, TESTS, generator)
        for memory, some in zip(memories, classes, strict=True)
        for label in some.tolist()
    ]
    return _measured(heads, [*tests, drawn(test, own, TESTS, generator)])


def _measured(heads: dict[str, LinearHead], tests: Sequence[Tensor]) -> dict[str, float]:
    labels = torch.arange(len(tests)).repeat_interleave(torch.tensor([len(each) for each in tests]))
    shown = torch.cat(list(tests))
    return {name: float((head.logits(shown).argmax(dim=1) == labels).float().mean()) for name, head in heads.items()}


def summary(figures: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Means with intervals, and paired differences of `joined` to the others."""
    columns = {name: torch.tensor([each[name] for each in figures]) for name in figures[0]}
    found = {name: interval(values) for name, values in columns.items()}
    others = [name for name in columns if name != "joined"]
    return found | {f"joined_over_{name}": interval(columns["joined"] - columns[name]) for name in others}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    add_encoder(parser)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--images-per-class", type=float, default=1)
    options = parse(parser, arguments)
    features = featuriser(options)
    ten, hundred = (load_dataset(name, featuriser=features) for name in ("cifar10", "cifar100"))
    order = torch.randperm(len(hundred.classes), generator=torch.Generator().manual_seed(0))
    chosen, held = order[:-HELD_OUT], order[-HELD_OUT:]
    memories = [
        known(dataset, some, options.split, options.images_per_class)
        for dataset, some in ((ten, torch.arange(len(ten.classes))), (hundred, chosen))
    ]
    unlike = [at for at, label in enumerate(chosen.tolist()) if hundred.classes[label] not in SIMILAR]
    allowed = torch.tensor(unlike)
    unseen = [
        Pictures(flat(part.images[members]), part.labels[members])
        for part in (hundred.train, getattr(hundred, options.split))
        for members in [torch.isin(part.labels, held)]
    ]
    count = 20 if options.quick else options.tasks
    generator = torch.Generator().manual_seed(1)
    document: dict[str, Any] = {"split": options.split, "images_per_class": options.images_per_class, "tasks": count}
    document["across"] = summary([across(memories, allowed, number, generator) for number in range(count)])
    document["added"] = summary([added(memories, allowed, (unseen[0], unseen[1]), generator) for _ in range(count)])
    print_figures(document)


if __name__ == "__main__":
    main()
