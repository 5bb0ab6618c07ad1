"""Few-shot episodes: a few pictures of a few classes address the memory; other pictures of these classes are the test.

The baselines use the same pictures: the nearest class mean in the encoder's feature space and classify-then-recall
(paper, Table 4), and a network that is trained on the few pictures alone. Networks are trained on the recalled images
alone, as in the paper, and together with the pictures, as in the server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.bundle.layout import encoder_folder
from recall_server.core.encoders.query_encoder import QueryEncoder
from recall_server.core.encoders.weights import learned_layers
from recall_server.core.memory import AbstractMemory
from recall_server.core.networks import Parameters
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.retraining import Retraining
from recall_server.errors import UnsupportedQuery
from trainer.data.datasets import Split
from trainer.evaluation.evaluate import Accuracies
from trainer.evaluation.few_shot.fresh_tasks import FreshTask, fresh_accuracies

RECALLED, NEAREST_MEAN = "recalled", "nearest class mean"
CLASSIFIED, SHOTS_ALONE = "classified, then recalled", "shots alone"
WITH_SHOTS = " with shots"  # suffix: the pictures themselves are added to the training images
KNOWN_PICTURES = 100  # pictures whose mean encoding represents a class that the memory was distilled from

Encode = Callable[[Tensor], Tensor]  # pixels [N, C, H, W] -> query vectors [N, d_y]


@dataclass(frozen=True)
class FewShotTask:
    """An episode: `shots` [k, shots, C, H, W] of k classes in pixel space, and a test split labelled 0..k-1."""

    labels: tuple[str, ...]
    shots: Tensor
    test: Split


def draw_episode(
    split: Split, classes: tuple[str, ...], *, ways: int, shots: int, tests: int, generator: torch.Generator
) -> FewShotTask:
    """An episode of `ways` random classes with `shots` pictures each, and `tests` other pictures in total."""
    chosen: list[int] = torch.randperm(len(classes), generator=generator)[:ways].tolist()
    return episode_of(split, classes, chosen, shots=shots, tests=tests, generator=generator)


def episode_of(
    split: Split, classes: tuple[str, ...], chosen: Sequence[int], *, shots: int, tests: int, generator: torch.Generator
) -> FewShotTask:
    """An episode of the classes with these numbers. Raises ValueError for a class with too few pictures."""
    each = tests // len(chosen)
    if shots < 1 or each < 1:
        raise ValueError(f"an episode needs a shot and a test picture of each class, not {shots} and {each}")
    pixels, images = [], []
    for label in chosen:
        members = torch.nonzero(split.labels == label).flatten()
        if len(members) < shots + each:
            raise ValueError(
                f"{classes[label]} has {len(members)} pictures, too few for {shots} shots and {each} tests"
            )
        members = members[torch.randperm(len(members), generator=generator)]
        pixels.append(split.select(members[:shots]).pixels())
        images.append(split.images[members[shots : shots + each]])
    test = Split(torch.cat(images), torch.arange(len(chosen)).repeat_interleave(each))
    return FewShotTask(tuple(classes[label] for label in chosen), torch.stack(pixels), test)


def largest_task(split: Split, classes: tuple[str, ...], *, ways: int, shots: int, tests: int) -> tuple[int, int]:
    """(shots, tests), reduced where necessary to what every class of the split has pictures for.

    Raises ValueError for a class with fewer than two pictures.
    """
    counts = torch.bincount(split.labels, minlength=len(classes))
    fewest = int(counts.min())
    if fewest < 2:
        raise ValueError(
            f"few-shot episodes need two or more pictures of each class, but {classes[int(counts.argmin())]} has "
            f"{fewest}; add pictures of it"
        )
    shots = min(shots, max(1, fewest // 2))
    return shots, min(tests, ways * (fewest - shots))


@dataclass(frozen=True)
class FewShot:
    """A memory that answers episodes; `encode` is its query encoder.

    `pretrained` are the initial layers of the networks, if the schedule uses any.
    """

    memory: AbstractMemory
    preprocessing: AbstractPreprocessing
    retraining: Retraining
    encode: Encode
    device: torch.device
    pretrained: Parameters | None = None

    @classmethod
    def of_bundle(cls, path: Path, device: torch.device, *, retraining: Retraining | None = None) -> Self:
        """Load a bundle that is addressed by pictures, and its encoder. `retraining` replaces the bundle's schedule.

        Raises InvalidBundle without a usable encoder, and UnsupportedQuery for a bundle that is addressed by labels.
        """
        bundle = MemoryBundle.load(path)
        reference = bundle.manifest.query_encoder
        if reference is None:
            raise UnsupportedQuery(f"the memory {bundle.manifest.name!r} is addressed by labels, not by pictures")
        file = encoder_folder(path) / reference.file
        # onnxruntime may lack CUDA where torch has it; the encoder then runs on all cores.
        where: Literal["auto", "cpu"] = "auto" if device.type == "cuda" else "cpu"
        encoder = QueryEncoder(file, reference.sha256, device=where, threads=torch.get_num_threads())
        schedule = retraining or bundle.manifest.retraining
        return cls(
            bundle.memory,
            bundle.preprocessing,
            schedule,
            encode=lambda pixels: torch.from_numpy(encoder.encode(pixels.numpy())),
            device=device,
            pretrained=learned_layers(encoder, schedule),
        )

    def recalled(self, episode: FewShotTask, seed: int) -> float:
        """Accuracy of a fresh network trained on the images that the pictures recall."""
        return self._train(self.by_pictures(episode), episode, seed)

    def classified(self, episode: FewShotTask, known: Tensor, seed: int) -> float:
        """Baseline: accuracy of a fresh network trained on the known classes that the pictures are classified as."""
        return self._train(self.by_known_classes(episode, known), episode, seed)

    def by_pictures(self, episode: FewShotTask) -> Tensor:
        """What the class means of an episode's pictures recall: [k, r, C, H, W] in model space."""
        return self.memory.items(self._class_means(episode))

    def by_known_classes(self, episode: FewShotTask, known: Tensor) -> Tensor:
        """Images recalled for the known class that most pictures of each class are nearest to: [k, r, C, H, W].

        `known` [C, d_y] are the mean encodings of the classes that the memory was distilled from (`known_classes`).
        """
        features = self.encode(episode.shots.flatten(0, 1))
        nearest = torch.cdist(features, known).argmin(dim=1).reshape(episode.shots.shape[:2])
        return self.memory.items(known[nearest.mode(dim=1).values])

    def pictures_alone(self, episode: FewShotTask) -> Tensor:
        """The pictures of an episode: [k, shots, C, H, W] in model space."""
        return self.preprocessing.to_model(episode.shots.flatten(0, 1)).reshape(episode.shots.shape)

    def beside_pictures(self, images: Callable[[FewShotTask], Tensor]) -> Callable[[FewShotTask], Tensor]:
        """`images` with the episode's pictures as additional rows, as in `recall_server.recall.own_pictures`."""
        return lambda episode: torch.cat([images(episode), self.pictures_alone(episode)], dim=1)

    def known_classes(self, split: Split, classes: int) -> Tensor:
        """The mean encodings [C, d_y] of the first KNOWN_PICTURES of each class. ValueError for an empty class."""
        means = []
        for label in range(classes):
            members = torch.nonzero(split.labels == label).flatten()[:KNOWN_PICTURES]
            if not len(members):
                raise ValueError(f"class {label} has no pictures")
            means.append(self.encode(split.select(members).pixels()).mean(dim=0))
        return torch.stack(means)

    def shots_alone(self, episode: FewShotTask, seed: int) -> float:
        """Baseline: accuracy of the same network trained on the few pictures alone."""
        return self._train(self.pictures_alone(episode), episode, seed)

    def nearest_mean(self, episode: FewShotTask) -> float:
        """Baseline: accuracy of the nearest class mean in the encoder's feature space, without training."""
        nearest = torch.cdist(self.encode(episode.test.pixels()), self._class_means(episode)).argmin(dim=1).cpu()
        return float((nearest == episode.test.labels).float().mean())

    def _class_means(self, episode: FewShotTask) -> Tensor:
        features = self.encode(episode.shots.flatten(0, 1))
        return features.reshape(*episode.shots.shape[:2], -1).mean(dim=1)

    def accuracies(self, episodes: Sequence[FewShotTask], images: Callable[[FewShotTask], Tensor]) -> Accuracies:
        """Accuracy of one fresh network per episode, trained on `images(episode)`; the episode's index is its seed.

        `images` is `by_pictures` or another function that answers an episode.
        """
        tasks = (self._task(images(episode), episode, seed) for seed, episode in enumerate(episodes))
        return Accuracies(fresh_accuracies(tasks, self.retraining, device=self.device, pretrained=self.pretrained))

    def _train(self, images: Tensor, episode: FewShotTask, seed: int) -> float:
        tasks = [self._task(images, episode, seed)]
        return fresh_accuracies(tasks, self.retraining, device=self.device, pretrained=self.pretrained)[0]

    def _task(self, images: Tensor, episode: FewShotTask, seed: int) -> FreshTask:
        return FreshTask(images, self.preprocessing, episode.test, seed)


def evaluate_few_shot(
    few_shot: FewShot, episodes: Sequence[FewShotTask], known: Tensor | None = None
) -> dict[str, Accuracies]:
    """Accuracies over the episodes, of the memory and of baselines that use the same pictures.

    Classify-then-recall needs `known`, the mean encodings of the memory's own classes.
    """
    ways = {RECALLED: few_shot.by_pictures}
    if known is not None:
        ways[CLASSIFIED] = lambda episode: few_shot.by_known_classes(episode, known)
    results = {NEAREST_MEAN: Accuracies(tuple(map(few_shot.nearest_mean, episodes)))}
    for name, images in ways.items():
        results[name] = few_shot.accuracies(episodes, images)
        results[name + WITH_SHOTS] = few_shot.accuracies(episodes, few_shot.beside_pictures(images))
    results[SHOTS_ALONE] = few_shot.accuracies(episodes, few_shot.pictures_alone)
    return results
