"""Few-shot classes that a memory of features has never seen: episodes with and without what the memory recalls.

    python -m benchmarks.few_shot_features --encoder FILE.onnx [--setting cifar100|cifar10] [--episodes 600] [--quick]

cifar100    20 held-out classes of CIFAR-100 by a memory of the other 80; by default classes that no constant saw
cifar10     CIFAR-10 by a memory of CIFAR-100 without its classes that CIFAR-10 has or nearly has

The memory is made from training pictures, at the numbers of one image per class and stored as int8. Each episode draws
five of the unseen classes, 1 or 5 pictures to learn from and 15 to be tested on, of each, all from the test split.
Figures are mean accuracies in per cent with 95 % intervals; `over_X` is the paired difference to X. --quick: 60
episodes. The last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from benchmarks.command import add_encoder, command_parser, featuriser, print_figures
from benchmarks.memories_of_classes import memory_of_classes
from recall_server.core.classifier.class_statistics import LinearHead, TwoCovariances
from recall_server.recall.features.few_shot import few_shot_head, logistic, nearest_mean, recalled, together
from recall_server.recall.features.known_classes import statistics_in_features
from trainer.data.datasets import ImageDataset, load_dataset

WAYS, TESTS, SHOTS = 5, 15, (1, 5)
CLASSES, HELD_OUT = 100, 20  # of CIFAR-100
AT_ONCE = 50  # episodes
# Classes of CIFAR-100 that are classes of CIFAR-10 or kinds of them: trucks, cars, ships, birds' and animals' likes.
SIMILAR = (
    "bus", "pickup_truck", "streetcar", "tank", "tractor", "train", "rocket", "lawn_mower", "motorcycle",
    "leopard", "lion", "tiger", "wolf", "fox", "camel", "cattle", "elephant", "kangaroo", "lizard",
)  # fmt: skip


class Pictures(NamedTuple):
    features: Tensor  # [N, D]
    labels: Tensor


class Episodes(NamedTuple):
    """Positions of the pictures to learn from [E, ways * shots] and to test on [E, ways * TESTS], class by class."""

    shown: Tensor
    tested: Tensor


def flat(features: Tensor) -> Tensor:
    """Features [N, D, 1, 1] of any floating-point type -> [N, D] float32."""
    return features.flatten(1).float()


def without_root(features: Tensor) -> Tensor:
    """What a network gives before the encoder takes signed square roots [N, D]: of length one instead of its own."""
    return normalize(features * features.abs(), dim=1)


def draw(labels: Tensor, shots: int, count: int, generator: torch.Generator) -> Episodes:
    members = [torch.nonzero(labels == label).flatten() for label in torch.unique(labels)]
    shown, tested = [], []
    for _ in range(count):
        chosen = [members[each] for each in torch.randperm(len(members), generator=generator)[:WAYS].tolist()]
        drawn = torch.stack([each[torch.randperm(len(each), generator=generator)[: shots + TESTS]] for each in chosen])
        shown.append(drawn[:, :shots].flatten())
        tested.append(drawn[:, shots:].flatten())
    return Episodes(torch.stack(shown), torch.stack(tested))


def right(head: LinearHead, pictures: Tensor) -> Tensor:
    """The share [E] of test pictures [E, ways * TESTS, D] that a head recognises."""
    truth = torch.arange(WAYS).repeat_interleave(TESTS)
    return (head.logits(pictures).argmax(dim=-1) == truth).float().mean(dim=-1)


def measure(
    pictures: Pictures, plain: Tensor, model: TwoCovariances, episodes: Episodes, shots: int
) -> dict[str, Tensor]:
    """Accuracies [E] of each way. `plain` are features without the root, which the two baselines learn from."""
    labels = torch.arange(WAYS).repeat_interleave(shots)
    members = one_hot(labels).float()
    ways: dict[str, tuple[Tensor, Callable[[Tensor, Tensor], LinearHead]]] = {
        "nearest_class_mean": (plain, nearest_mean),
        "logistic_regression": (plain, logistic),
        "prototypes": (pictures.features, nearest_mean),
        "pictures": (pictures.features, logistic),
        "recalled": (pictures.features, lambda x, y: recalled(x, y, model)),
        "together": (pictures.features, lambda x, y: together(x, recalled(x, y, model), logistic(x, y))),
    }
    found: dict[str, list[Tensor]] = {name: [] for name in [*ways, "auto"]}
    for shown, tested in zip(torch.split(episodes.shown, AT_ONCE), torch.split(episodes.tested, AT_ONCE), strict=True):
        for name, (features, make) in ways.items():
            found[name].append(right(make(features[shown], members), features[tested]))
    for shown, tested in zip(episodes.shown, episodes.tested, strict=True):
        head = few_shot_head(pictures.features[shown], labels, model).head
        found["auto"].append(right(head, pictures.features[tested]).unsqueeze(0))
    return {name: torch.cat(parts) for name, parts in found.items()}


def interval(values: Tensor) -> list[float]:
    """[mean, half of the 95 % interval], in per cent."""
    return [round(100 * float(values.mean()), 2), round(196 * float(values.std()) / len(values) ** 0.5, 2)]


def memory_model(known: ImageDataset, classes: Sequence[int]) -> TwoCovariances:
    """What a memory of these classes knows, at the numbers of one image per class and through int8."""
    made = memory_of_classes(known, torch.tensor(classes))
    return TwoCovariances(statistics_in_features(made.memory, made.preprocessing))


def held_out_classes(which: str) -> list[int]:
    """20 classes of CIFAR-100. The `explored` ones were looked at while constants were chosen, the `clean` ones not.

    Constants were fitted with 40 explored classes, of which 20 are returned. The clean ones are drawn, with another
    seed, from the remaining 60.
    """
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(0)).tolist()
    if which == "explored":
        return order[-2 * HELD_OUT : -HELD_OUT]
    chosen = torch.randperm(CLASSES - 2 * HELD_OUT, generator=torch.Generator().manual_seed(1))[:HELD_OUT]
    return [order[at] for at in chosen.tolist()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    add_encoder(parser)
    parser.add_argument("--setting", choices=("cifar100", "cifar10"), default="cifar100")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--held-out", choices=("clean", "explored"), default="clean", help="which 20 classes")
    options = parser.parse_args(arguments)
    encoder = featuriser(options)
    known = load_dataset("cifar100", featuriser=encoder)
    asked = known if options.setting == "cifar100" else load_dataset("cifar10", featuriser=encoder)
    if options.setting == "cifar100":
        unseen = held_out_classes(options.held_out)
        memory = [label for label in range(CLASSES) if label not in unseen]
    else:
        unseen = list(range(len(asked.classes)))
        memory = [label for label, name in enumerate(known.classes) if name not in SIMILAR]
    started = time.perf_counter()
    model = memory_model(known, memory)
    made = time.perf_counter() - started
    chosen = torch.isin(asked.test.labels, torch.tensor(unseen))
    pictures = Pictures(flat(asked.test.images[chosen]), asked.test.labels[chosen])
    plain = without_root(pictures.features)
    document: dict[str, object] = {
        "setting": options.setting,
        "memory_classes": len(memory),
        "memory_seconds": round(made, 1),
    }
    for shots in SHOTS:
        count = 60 if options.quick else options.episodes
        episodes = draw(pictures.labels, shots, count, torch.Generator().manual_seed(1))
        began = time.perf_counter()
        accuracies = measure(pictures, plain, model, episodes, shots)
        figures = {name: interval(values) for name, values in accuracies.items()}
        for baseline in ("nearest_class_mean", "logistic_regression", "pictures", "recalled"):
            figures |= {
                f"{name}_over_{baseline}": interval(accuracies[name] - accuracies[baseline])
                for name in ("recalled", "together", "auto")
                if name != baseline
            }
        document[f"{shots}_shot"] = figures | {"seconds": round(time.perf_counter() - began, 1)}
    print_figures(document)


if __name__ == "__main__":
    main()
