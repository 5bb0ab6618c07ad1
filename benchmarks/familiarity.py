"""Pictures of classes that a memory of features does not know: how well a score per picture tells them from known ones.

    python -m benchmarks.familiarity --encoder FILE.onnx [--held-out 20]

The memory knows CIFAR-100 without the held-out classes. AUROC is the chance that a test picture of a held-out class has
a higher score than one of a known class. `head` is the score that is served (largest logit of the linear head over all
known classes, calibrated on validation pictures), `usual` its mean on known test pictures; beside it the distance to
the nearest class mean, plain and in units of the covariance within classes. The last line is JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.command import add_encoder, command_parser, featuriser, print_figures
from benchmarks.few_shot_features import flat
from benchmarks.out_of_set import auroc
from recall_server.core.classifier.class_statistics import ClassStatistics, LinearHead, TwoCovariances
from recall_server.core.classifier.feature_novelty import FeatureNovelty
from trainer.data.datasets import load_dataset
from trainer.data.splits import Split
from trainer.starts.exact_head import softmax_head

DIRECTIONS = 128


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__)
    add_encoder(parser)
    parser.add_argument("--held-out", type=int, default=20, help="classes that the memory does not know")
    parser.add_argument("--ridge", type=float, default=0.003)
    options = parser.parse_args(arguments)
    dataset = load_dataset("cifar100", featuriser=featuriser(options))
    order = torch.randperm(len(dataset.classes), generator=torch.Generator().manual_seed(0))
    chosen = order[: len(order) - options.held_out]
    position = torch.full((len(order),), -1).scatter(0, chosen, torch.arange(len(chosen)))

    def part(split: Split) -> tuple[Tensor, Tensor]:
        """Features, and labels that count the known classes; -1 for the others."""
        return flat(split.images) * split.images.shape[1] ** 0.5, position[split.labels]

    (features, labels), (held, held_labels), (tested, truth) = map(
        part, (dataset.train, dataset.validation, dataset.test)
    )
    features, labels = features[labels >= 0], labels[labels >= 0]
    head = softmax_head(features, labels, len(chosen), options.ridge)
    novelty = FeatureNovelty.of(LinearHead(head.weights.T, head.bias), held[held_labels >= 0])
    statistics = ClassStatistics.of_features(features, labels, len(chosen), DIRECTIONS)
    model = TwoCovariances(statistics)
    scores = {
        "head": novelty.score(tested),
        "mahalanobis": torch.cdist(model.whiten(tested), model.whiten(statistics.means)).amin(dim=1),
        "nearest_mean": torch.cdist(tested, statistics.means).amin(dim=1),
    }
    document = {f"auroc_{name}": round(auroc(each[truth >= 0], each[truth < 0]), 4) for name, each in scores.items()}
    document["usual"] = round(float(scores["head"][truth >= 0].mean()), 4)
    print_figures(document)


if __name__ == "__main__":
    main()
