"""What a person would do instead with a few pictures of new classes: accuracy and seconds, side by side.

    python -m benchmarks.alternatives --encoder FILE.onnx [--episodes 100] [--classes clean|explored] [--quick]

Five-way episodes of 20 classes of CIFAR-100, which the memory (of the other 80 classes) has never seen, with 1 and 5
pictures of each class to learn from and 15 to be tested on. All ways look through the same encoder:

server               what the server does by itself (`auto`: the memory recalls, and the pictures choose the way)
logistic_regression  scikit-learn's, on the encoder's features without their square root
teachable_machine    a head as Teachable Machine trains it, on the same: a layer of 100, Adam at 0.001, 50 epochs,
                     batches of 16
fine_tuned           a linear head and the last convolution of the encoder, trained by Adam at 0.001 for 30 epochs

The settings of `fine_tuned` were chosen on the explored classes. Seconds are those of learning, without encoding.
Accuracies in per cent with 95 % intervals; `server_over_X` is the paired difference to X. --quick: 10 episodes. The
last line is JSON.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx.utils import Extractor
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.command import add_encoder, command_parser, featuriser, parse, print_figures
from benchmarks.few_shot_features import WAYS, Pictures, draw, held_out_classes, interval, memory_model, without_root
from benchmarks.memories_of_classes import of_classes
from recall_server.core.classifier.class_statistics import TwoCovariances
from recall_server.core.encoders.onnx_session import cpu_session
from recall_server.recall.features.few_shot import few_shot_head
from trainer.data.datasets import load_dataset
from trainer.data.features import prepared

LAST = "encoder/conv_88"  # what the last convolution of EfficientNet-Lite0 sees
TESTS, SHOTS = 15, (1, 5)
AT_ONCE = 100  # pictures

Logits = Callable[[Tensor], Tensor]


class LastLayer(NamedTuple):
    """The last convolution of the encoder, and what it sees of every picture as half precision [N, cells, C]."""

    weight: Tensor  # [D, C]
    bias: Tensor  # [D]
    inputs: Tensor


def last_layer(path: Path, images: Tensor, side: int) -> LastLayer:
    """Of EfficientNet-Lite0, for pictures uint8 [N, 3, h, w] enlarged to `side`."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    stored = {each.name: onnx.numpy_helper.to_array(each).astype(np.float32) for each in model.graph.initializer}
    before = Extractor(model).extract_model([model.graph.input[0].name], [LAST])
    session = cpu_session(before.SerializeToString())
    name = model.graph.input[0].name
    parts = []
    for some in torch.split(images, AT_ONCE):
        (found,) = session.run([LAST], {name: prepared(some, (3, side, side))})
        parts.append(torch.from_numpy(found).flatten(2).transpose(1, 2).half())
    weight = torch.from_numpy(stored["encoder/_conv_head.weight.half"]).flatten(1)
    return LastLayer(weight, torch.from_numpy(stored["encoder/_conv_head.bias.half"]), torch.cat(parts))


def logistic_regression(features: Tensor, labels: Tensor) -> Logits:
    fitted = LogisticRegression(max_iter=1000).fit(features.numpy(), labels.numpy())
    return lambda shown: torch.from_numpy(fitted.decision_function(shown.numpy()))


def teachable_machine(features: Tensor, labels: Tensor, generator: torch.Generator) -> Logits:
    layers = nn.Linear(features.shape[1], 100), nn.Linear(100, WAYS)
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    head = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    _descend(list(head.parameters()), lambda index: cross_entropy(head(features[index]), labels[index]), labels, 50)
    return lambda shown: head(shown).detach()


def fine_tuned(layer: LastLayer, shown: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """Logits of pictures by their positions, after training on those at `shown`."""
    weight, bias = layer.weight.clone().requires_grad_(), layer.bias.clone().requires_grad_()
    head = nn.Linear(len(weight), WAYS)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)

    def logits(index: Tensor) -> Tensor:
        inputs = layer.inputs[index].float()
        return torch.as_tensor(head((inputs @ weight.T + bias).clamp(0, 6).mean(dim=1)))

    _descend([weight, bias, *head.parameters()], lambda i: cross_entropy(logits(shown[i]), labels[i]), labels, 30)
    return torch.no_grad()(logits)


def _descend(tensors: Sequence[Tensor], loss: Callable[[Tensor], Tensor], labels: Tensor, epochs: int) -> None:
    optimiser = torch.optim.Adam(tensors, lr=0.001)
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for index in torch.split(order, 16):
            optimiser.zero_grad()
            loss(index).backward()  # type: ignore[no-untyped-call]
            optimiser.step()


class Episode(NamedTuple):
    """Positions of pictures to learn from, with their labels, and of those to be tested on."""

    shown: Tensor
    labels: Tensor
    tested: Tensor


def ways(pictures: Pictures, layer: LastLayer, model: TwoCovariances) -> dict[str, Callable[[Episode], Logits]]:
    """Each way learns from an episode, and gives logits of pictures by their positions."""
    features, plain, generator = pictures.features, without_root(pictures.features), torch.Generator().manual_seed(2)

    def server(episode: Episode) -> Logits:
        head = few_shot_head(features[episode.shown], episode.labels, model).head
        return lambda index: head.logits(features[index])

    def on_features(learn: Callable[[Tensor, Tensor], Logits]) -> Callable[[Episode], Logits]:
        def learned(episode: Episode) -> Logits:
            logits = learn(plain[episode.shown], episode.labels)
            return lambda index: logits(plain[index])

        return learned

    return {
        "server": server,
        "logistic_regression": on_features(logistic_regression),
        "teachable_machine": on_features(lambda some, labels: teachable_machine(some, labels, generator)),
        "fine_tuned": lambda episode: fine_tuned(layer, episode.shown, episode.labels),
    }


def measure(learners: dict[str, Callable[[Episode], Logits]], drawn: Sequence[Episode]) -> dict[str, object]:
    """Accuracies and seconds of learning of every way, and paired differences."""
    truth = torch.arange(WAYS).repeat_interleave(TESTS)
    accuracies: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for name, learn in learners.items():
        found, spent = [], 0.0
        for episode in drawn:
            began = time.perf_counter()
            logits = learn(episode)
            spent += time.perf_counter() - began
            found.append((logits(episode.tested).argmax(dim=1) == truth).float().mean())
        accuracies[name], seconds[f"{name}_seconds"] = torch.stack(found), round(spent / len(drawn), 3)
    figures = {name: interval(values) for name, values in accuracies.items()}
    others = [name for name in learners if name != "server"]
    over = {f"server_over_{name}": interval(accuracies["server"] - accuracies[name]) for name in others}
    return {**figures, **over, **seconds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_parser(__doc__, "quick")
    add_encoder(parser)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--classes", choices=("clean", "explored"), default="clean", help="which 20 unseen classes")
    options = parse(parser, arguments)
    seen = load_dataset("cifar100", featuriser=featuriser(options))
    unseen = held_out_classes(options.classes)
    model = memory_model(seen, [label for label in range(len(seen.classes)) if label not in unseen])
    pictures = Pictures(*of_classes(seen.test, torch.tensor(unseen)))
    photographs = load_dataset("cifar100").test
    chosen = torch.isin(photographs.labels, torch.tensor(unseen))
    layer = last_layer(options.encoder, photographs.images[chosen], options.size)
    learners = ways(pictures, layer, model)
    count = 10 if options.quick else options.episodes
    document: dict[str, object] = {"episodes": count, "classes": options.classes}
    for shots in SHOTS:
        drawn = draw(pictures.labels, shots, count, torch.Generator().manual_seed(1))
        labels = torch.arange(WAYS).repeat_interleave(shots)
        episodes = [Episode(shown, labels, tested) for shown, tested in zip(drawn.shown, drawn.tested, strict=True)]
        document[f"{shots}_shot"] = measure(learners, episodes)
    print_figures(document)


if __name__ == "__main__":
    main()
