"""Pictures of classes that a classifier does not know: how well the familiarity of a picture tells them from others.

    python -m benchmarks.familiarity --encoder FILE.onnx [--held-out clean|explored] [--quick]

A memory knows 80 classes of CIFAR-100, and pictures of the 20 held-out ones are strange. AUROC is the chance that a
test picture of a class of the classifier is more familiar than one of a held-out class.

all         a classifier of all 80 classes, by the memory's linear head
ten         classifiers of ten of the 80 classes; the memory's other classes help
pictures_N  five-way classifiers of N pictures of five held-out classes each; the other 15 held-out classes are strange

`rejected` are the shares of known and of strange pictures, in per cent, that are said to show none of the classes by
the default threshold. Baselines are the largest probability of the classifier, and the cosine with the nearest class
mean. The classes `explored` were looked at while the score was chosen, the `clean` ones were not. --quick: 10
classifiers of each kind. The last line is JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.command import add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.few_shot_features import WAYS, Pictures, draw, held_out_classes, interval, memory_model
from benchmarks.memories_of_classes import of_classes
from benchmarks.out_of_set import auroc
from recall_server.core.classifier.class_statistics import LinearHead, TwoCovariances
from recall_server.core.classifier.familiarity import NONE_BELOW, Familiarity
from recall_server.recall.features.calibration import head_familiarity, picture_familiarity
from recall_server.recall.features.few_shot import few_shot_head
from trainer.data.datasets import ImageDataset, load_dataset
from trainer.starts.features.linear_head import softmax_head

LABELS, TASKS, EPISODES, SHOTS = 10, 50, 200, (1, 5)
RIDGE = 0.003  # of the head over all classes; best on validation pictures


class Memory(NamedTuple):
    """The stored head over all known classes, their means [C, D], and what the memory knows of them."""

    head: LinearHead
    means: Tensor
    model: TwoCovariances


def measured(kept: Familiarity, known: Tensor, strange: Tensor, head: LinearHead, means: Tensor) -> list[float]:
    """AUROC of the familiarity and of both baselines, and the rejected shares of known and of strange pictures."""

    def probability(shown: Tensor) -> Tensor:
        return head.logits(shown).softmax(dim=1).amax(dim=1)

    def cosine(shown: Tensor) -> Tensor:
        return (normalize(shown, dim=1) @ normalize(means, dim=1).T).amax(dim=1)

    rejected = [float((kept.of(shown) < NONE_BELOW).float().mean()) for shown in (known, strange)]
    return [auroc(-score(known), -score(strange)) for score in (kept.of, probability, cosine)] + rejected


def of_labels(memory: Memory, known: Pictures, strange: Tensor, own: Tensor) -> list[float]:
    """Figures for a classifier of the labels `own`, whose head is that of the memory."""
    others = torch.tensor([label for label in range(len(memory.means)) if label not in own.tolist()], dtype=torch.long)
    order = torch.cat([own, others])
    head = LinearHead(memory.head.weights[order], memory.head.bias[order])
    kept = head_familiarity(head, memory.means[own], memory.means[others], memory.model)
    columns = LinearHead(memory.head.weights[own], memory.head.bias[own])
    shown = known.features[torch.isin(known.labels, own)]
    return measured(kept, shown, strange, columns, memory.means[own])


def of_pictures(memory: Memory, strange: Pictures, shots: int, count: int) -> list[list[float]]:
    """Figures for each of `count` classifiers of pictures of held-out classes."""
    episodes = draw(strange.labels, shots, count, torch.Generator().manual_seed(1))
    found = []
    for shown, tested in zip(episodes.shown, episodes.tested, strict=True):
        features, labels = strange.features[shown], torch.arange(WAYS).repeat_interleave(shots)
        others = ~torch.isin(strange.labels, strange.labels[shown])
        kept = picture_familiarity(features, labels, memory.model)
        head = few_shot_head(features, labels, memory.model, "together").head
        means = features.reshape(WAYS, shots, -1).mean(dim=1)
        found.append(measured(kept, strange.features[tested], strange.features[others], head, means))
    return found


def document_of(figures: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Means in per cent, with half of the 95 % interval where there are several."""
    columns = torch.tensor(figures).T
    names = ("auroc", "auroc_largest_probability", "auroc_nearest_mean", "known_rejected", "strange_rejected")
    return {name: interval(values) for name, values in zip(names, columns, strict=True)}


def memory_of(dataset: ImageDataset, known: Sequence[int]) -> Memory:
    """What is known of these classes after the training pictures."""
    features, labels = of_classes(dataset.train, torch.tensor(known))
    mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-4 * features.std()
    head = softmax_head((features - mean) / deviation, labels, len(known), RIDGE)
    weights = head.weights / deviation
    means = torch.stack([features[labels == label].mean(dim=0) for label in range(len(known))])
    model = memory_model(dataset, known)
    return Memory(LinearHead(weights, head.bias - weights @ mean), means, model)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    add_encoder(parser)
    parser.add_argument("--held-out", choices=("clean", "explored"), default="clean", help="which 20 classes")
    options = parse(parser, arguments)
    dataset = load_dataset("cifar100", featuriser=featuriser(options))
    held = held_out_classes(options.held_out)
    known = [each for each in range(len(dataset.classes)) if each not in held]
    memory, known_test, strange = (
        memory_of(dataset, known),
        *(Pictures(*of_classes(dataset.test, torch.tensor(each))) for each in (known, held)),
    )
    generator = torch.Generator().manual_seed(0)
    tasks, episodes = (10, 10) if options.quick else (TASKS, EPISODES)
    chosen = [torch.randperm(len(known), generator=generator)[:LABELS] for _ in range(tasks)]
    whole = of_labels(memory, known_test, strange.features, torch.arange(len(known)))
    document = {
        "held_out": options.held_out,
        "all": {name: values[0] for name, values in document_of([whole, whole]).items()},
        "ten": document_of([of_labels(memory, known_test, strange.features, own) for own in chosen]),
    }
    document |= {f"pictures_{shots}": document_of(of_pictures(memory, strange, shots, episodes)) for shots in SHOTS}
    print_figures(document)


if __name__ == "__main__":
    main()
