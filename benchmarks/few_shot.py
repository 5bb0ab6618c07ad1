"""Few-shot classifiers over HTTP: trained by a real server from posted pictures, and scored on other pictures.

    python -m benchmarks.few_shot [--data FOLDER] [--episodes 10] [--ways 2] [--quick]

Starts `recall-server serve` on a free port with the bundles in artifacts/ and waits for a warm worker. For every
episode it posts 5 test pictures of each of a few random classes, waits for the classifier, and sends it 200 other
pictures of these classes. The classifier is trained on recalled images alone (`own_pictures=false`). The baselines use
the same pictures: prototypes over HTTP (the nearest class mean in the encoder's feature space), classify-then-recall,
and the same network trained on the pictures alone. The seconds are from sending the pictures to a usable classifier.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import torch
from numpy.typing import NDArray

from recall_client import Addressing, RecallClient
from recall_server.core.training.device import device_name
from trainer.data.datasets import load_dataset
from trainer.evaluation.few_shot import FewShot, FewShotTask, draw_episode
from trainer.evaluation.report import SHOTS, TESTS, WAYS

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
BUNDLE = "fashion-mnist-images"
PATIENCE = 120.0


@contextmanager
def running_server() -> Iterator[RecallClient]:
    """A client of `recall-server serve` in its own process, with an empty state folder; stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, "-m", "recall_server", "serve", "--port", str(port)]
        others = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
        settings = {"RECALL_ARTIFACTS": str(ARTIFACTS), "RECALL_STATE": state, "RECALL_LOG_LEVEL": "warning"}
        process = subprocess.Popen(command, env=others | settings)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            with RecallClient(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                yield client
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until bundles are loaded and the worker is warm. Raises RuntimeError on a timeout."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/health/ready").is_success:
                return
        except httpx2.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise RuntimeError("the server did not become ready")


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist", help="a data set, as for `recall-trainer --dataset`")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--ways", type=int, default=WAYS, help="classes per episode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 episodes")
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    generator = torch.Generator().manual_seed(options.seed)
    episodes = [
        draw_episode(dataset.test, dataset.classes, ways=options.ways, shots=SHOTS, tests=TESTS, generator=generator)
        for _ in range(3 if options.quick else options.episodes)
    ]
    # The bundle's own encoder and preprocessing, for the baselines that run without the server.
    few_shot = FewShot.of_bundle(ARTIFACTS / "bundles" / f"{BUNDLE}.safetensors", torch.device("cpu"))
    known = few_shot.known_classes(dataset.train, len(dataset.classes))
    accuracies: dict[str, list[float]] = {
        "recalled": [],
        "nearest_class_mean": [],
        "classified_then_recalled": [],
        "shots_alone": [],
    }
    times, prototype_times = [], []
    with running_server() as client:
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
            sys.stdout.write(f"{' / '.join(episode.labels):28} {figures}; {seconds:.1f} s\n")
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
    sys.stdout.write(
        json.dumps(
            document | {"episodes": len(episodes), "ways": options.ways, "device": device_name(torch.device("cpu"))}
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
