"""How often the accuracy on other pictures lies in the interval that a classifier of a few pictures states.

    python -m benchmarks.estimates --encoder FILE.onnx [--episodes 200] [--quick]

The server leaves pictures out, counts which it gets right, and states the 95 % interval of that share (Wilson, 1927).
Five-way episodes of classes that the memory of 80 classes of CIFAR-100 knows, and of the 20 that it does not, with 2, 5
and 10 pictures of each class; accuracy is that on all other test pictures of the five classes. For each kind of
episode: `covered`, the share of episodes in per cent whose accuracy lies in the interval, `width`, the mean width of
the interval, and `bias`, the mean of estimate less accuracy, both in points. The baseline `on_all` is the share of the
training pictures themselves that the classifier gets right, with its interval. --quick: 20 episodes. The last line is
JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.command import add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.few_shot_features import WAYS, Pictures, draw, held_out_classes, memory_model
from benchmarks.memories_of_classes import of_classes
from recall_server.core.classifier.class_statistics import TwoCovariances
from recall_server.core.classifier.expected_accuracy import wilson_interval
from recall_server.recall.features.few_shot import few_shot_head
from trainer.data.datasets import load_dataset

SHOTS = (2, 5, 10)
ROUNDING = 1e-6  # of float32: the ends of the interval of a share of one


def episode(pictures: Pictures, shown: Tensor, shots: int, model: TwoCovariances) -> list[tuple[float, float, float]]:
    """Of the estimate by pictures left out, and of that on the pictures themselves: low, high and estimate less truth.

    `low` and `high` are the ends of the interval less the accuracy, so that it is covered if they differ in sign.
    """
    labels = torch.arange(WAYS).repeat_interleave(shots)
    classes = pictures.labels[shown].view(WAYS, shots)[:, 0]
    made = few_shot_head(pictures.features[shown], labels, model)
    others = torch.isin(pictures.labels, classes)
    others[shown] = False
    truth = (pictures.labels[others].unsqueeze(1) == classes).int().argmax(dim=1)
    accuracy = float((made.head.logits(pictures.features[others]).argmax(dim=1) == truth).float().mean())
    own = (made.head.logits(pictures.features[shown]).argmax(dim=1) == labels).float()
    found = []
    for right in (made.right[made.way], own):
        low, high = wilson_interval(float(right.sum()), len(right))
        found.append((low - accuracy, high - accuracy, float(right.mean()) - accuracy))
    return found


def summary(columns: Tensor) -> dict[str, float]:
    """Of rows (low, high, bias) [E, 3]."""
    low, high, bias = columns.unbind(dim=1)
    covered = ((low <= ROUNDING) & (high >= -ROUNDING)).float().mean()
    return {
        "covered": round(100 * float(covered), 1),
        "width": round(100 * float((high - low).mean()), 1),
        "bias": round(100 * float(bias.mean()), 2),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    add_encoder(parser)
    parser.add_argument("--episodes", type=int, default=200)
    options = parse(parser, arguments)
    dataset = load_dataset("cifar100", featuriser=featuriser(options))
    held = held_out_classes("clean")
    known = [each for each in range(len(dataset.classes)) if each not in held]
    model = memory_model(dataset, known)
    count = 20 if options.quick else options.episodes
    document: dict[str, object] = {"episodes": count}
    for name, classes in (("known", known), ("unknown", held)):
        pictures = Pictures(*of_classes(dataset.test, torch.tensor(classes)))
        for shots in SHOTS:
            drawn = draw(pictures.labels, shots, count, torch.Generator().manual_seed(1))
            rows = torch.tensor([episode(pictures, shown, shots, model) for shown in drawn.shown])
            left_out, on_all = summary(rows[:, 0]), summary(rows[:, 1])
            document[f"{name}_{shots}_shots"] = left_out | {f"on_all_{key}": value for key, value in on_all.items()}
            print(name, shots, document[f"{name}_{shots}_shots"], flush=True)
    print_figures(document)


if __name__ == "__main__":
    main()
