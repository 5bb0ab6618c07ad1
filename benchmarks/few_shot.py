"""Few-shot classifiers over HTTP: trained by a real server from posted pictures, and scored on other pictures.

    python -m benchmarks.few_shot [--data FOLDER] [--episodes 10] [--ways 2] [--quick]

Starts `recall-server serve` on a free port with the bundles in artifacts/ and waits for a warm worker. For every
episode it posts 5 test pictures of each of a few random classes, waits for the classifier, and sends it 200 other
pictures of these classes. The classifier is trained on recalled images alone (`own_pictures=false`). The baselines use
the same pictures: prototypes over HTTP (the nearest class mean in the encoder's feature space), classify-then-recall,
and the same network trained on the pictures alone. The seconds are from sending the pictures to a usable classifier.
--quick: three episodes. The last line is JSON.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command import CPU, command_parser, print_figures
from benchmarks.running_server import ARTIFACTS, PATIENCE, running_server
from recall_client import Addressing, RecallClient
from trainer.data.datasets import load_dataset
from trainer.evaluation.few_shot.episodes import FewShot, FewShotTask, draw_episode
from trainer.evaluation.report import SHOTS, TESTS, WAYS

BUNDLE = "fashion-mnist-images"


def pictures(pixels: torch.Tensor) -> list[NDArray[np.uint8]]:
    """Pixels [N, 1, H, W] in 0..1 -> N arrays [H, W] in 0..255, like a user's pictures."""
    return list((pixels[:, 0] * 255).round().byte().numpy())


def answer(client: RecallClient, episode: FewShotTask, addressing: Addressing) -> tuple[float, float]:
    """Accuracy on the episode's test pictures, and the seconds from sending the shots to a usable classifier."""
    names = [f"class {number}" for number in range(len(episode.labels))]
    started = time.perf_counter()
    shown = {name: pictures(shots) for name, shots in zip(names, episode.shots, strict=True)}
    classifier = client.train(shown, addressing=addressing, own_pictures=False).wait()
    seconds = time.perf_counter() - started
    predictions = classifier.predict(pictures(episode.test.pixels()))
    right = [
        prediction.label == names[label]
        for prediction, label in zip(predictions, episode.test.labels.tolist(), strict=True)
    ]
    classifier.delete()
    return statistics.mean(right), seconds


def main() -> None:
    parser = command_parser(__doc__, "seed", "quick")
    parser.add_argument("--data", default="fashion-mnist", help="a data set, as for `recall-trainer --dataset`")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--ways", type=int, default=WAYS, help="classes per episode")
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    generator = torch.Generator().manual_seed(options.seed)
    episodes = [
        draw_episode(dataset.test, dataset.classes, ways=options.ways, shots=SHOTS, tests=TESTS, generator=generator)
        for _ in range(3 if options.quick else options.episodes)
    ]
    # The bundle's own encoder and preprocessing, for the baselines that run without the server.
    few_shot = FewShot.of_bundle(ARTIFACTS / "bundles" / f"{BUNDLE}.safetensors", CPU)
    known = few_shot.known_classes(dataset.train, len(dataset.classes))
    accuracies: dict[str, list[float]] = {
        "recalled": [],
        "nearest_class_mean": [],
        "classified_then_recalled": [],
        "shots_alone": [],
    }
    times, prototype_times = [], []
    with running_server() as server, RecallClient(server.url, timeout=PATIENCE) as client:
        for number, episode in enumerate(episodes):
            accuracy, seconds = answer(client, episode, "prototypes")
            accuracies["nearest_class_mean"].append(accuracy)
            prototype_times.append(seconds)
            accuracy, seconds = answer(client, episode, "images")
            accuracies["recalled"].append(accuracy)
            accuracies["classified_then_recalled"].append(few_shot.classified(episode, known, number))
            accuracies["shots_alone"].append(few_shot.shots_alone(episode, number))
            times.append(seconds)
            figures = ", ".join(f"{name} {100 * values[-1]:.1f}" for name, values in accuracies.items())
            print(f"{' / '.join(episode.labels):28} {figures}; {seconds:.1f} s", flush=True)
    recalled = accuracies.pop("recalled")
    summary = {"accuracy": statistics.mean(recalled), "lowest_accuracy": min(recalled)}
    summary |= {f"accuracy_{name}": statistics.mean(values) for name, values in accuracies.items()}
    summary |= {
        "seconds": statistics.mean(times),
        "longest_seconds": max(times),
        "prototype_seconds": statistics.mean(prototype_times),
        "longest_prototype_seconds": max(prototype_times),
    }
    document = {name: round(value, 4) for name, value in summary.items()}
    print_figures(document | {"episodes": len(episodes), "ways": options.ways})


if __name__ == "__main__":
    main()
