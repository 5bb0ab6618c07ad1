"""Training and test data for classes of several memories: recalled images and real pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from recall_server.core.bundle.bundle import MemoryBundle
from recall_server.core.preprocessing import AbstractPreprocessing, Standardise
from recall_server.recall.training_set import shared_format
from trainer.data.datasets import Split

Chosen = tuple[int, ...]  # classes, by their numbers
Source = Callable[[Chosen, int], tuple[Tensor, AbstractPreprocessing]]  # and a seed -> [k, r, C, H, W] in model space


class Memories:
    """The images that all memories recall, in pixel space, and the model spaces for combining several memories."""

    def __init__(self, bundles: Mapping[str, MemoryBundle], classes: Sequence[str], device: torch.device) -> None:
        self.bundles = {label: bundle for bundle in bundles.values() for label in bundle.labels}
        self.classes = classes
        self.retraining = shared_format([self.bundles[label] for label in classes]).retraining
        self.pixels = torch.stack([self._recalled(label) for label in classes]).to(device)  # [classes, r, C, H, W]
        numbers = self.pixels.double()
        self._means = numbers.mean(dim=(1, 3, 4)).cpu()  # [classes, C]
        self._squares = numbers.square().mean(dim=(1, 3, 4)).cpu()

    def sources(self) -> dict[str, Source]:
        """The spaces by name: the server's, and the memories' own standardisation if all of them have one."""
        found: dict[str, Source] = {"standardised by what is recalled": self.as_recalled}
        if all(isinstance(bundle.preprocessing, Standardise) for bundle in self.bundles.values()):
            found["standardised as the memories are"] = self.as_distilled
        return found

    def as_recalled(self, chosen: Chosen, seed: int) -> tuple[Tensor, AbstractPreprocessing]:
        """The result of `build_training_set` for these classes, up to rounding."""
        index = list(chosen)
        mean = self._means[index].mean(dim=0)
        deviation = (self._squares[index].mean(dim=0) - mean.square()).sqrt()
        return self._in(Standardise(mean.float(), deviation.float()), chosen)

    def as_distilled(self, chosen: Chosen, seed: int) -> tuple[Tensor, AbstractPreprocessing]:
        """The images in the mean of the standardised spaces of these memories."""
        spaces = [self.bundles[self.classes[number]].preprocessing.tensors() for number in chosen]
        mean, deviation = (torch.stack([space[name] for space in spaces]).mean(dim=0) for name in ("mean", "deviation"))
        return self._in(Standardise(mean, deviation), chosen)

    def _recalled(self, label: str) -> Tensor:
        bundle = self.bundles[label]
        with torch.no_grad():
            return bundle.recall_pixels(bundle.label_queries([label]))[0]

    def _in(self, space: Standardise, chosen: Chosen) -> tuple[Tensor, AbstractPreprocessing]:
        pixels = self.pixels[list(chosen)]
        return space.to_model(pixels.flatten(0, 1)).view_as(pixels), space


class RealPictures:
    """Training pictures by class, on the device: `pictures` uint8 [classes, n, C, H, W], as many as each class has."""

    def __init__(self, split: Split, classes: int, device: torch.device) -> None:
        members = [torch.nonzero(split.labels == label).flatten() for label in range(classes)]
        each = min(map(len, members))
        self.pictures = torch.stack([split.images[index[:each]] for index in members]).to(device)
        self.space = Standardise.fit(split.images)

    def all(self, chosen: Chosen, seed: int) -> tuple[Tensor, AbstractPreprocessing]:
        return self._images(self.pictures[list(chosen)])

    def some(self, count: int) -> Source:
        """A source of `count` random pictures per class, different for each task."""

        def source(chosen: Chosen, seed: int) -> tuple[Tensor, AbstractPreprocessing]:
            generator = torch.Generator().manual_seed(seed)
            index = torch.stack([torch.randperm(self.pictures.shape[1], generator=generator)[:count] for _ in chosen])
            rows = torch.tensor(chosen).unsqueeze(1)
            return self._images(self.pictures[rows.to(self.pictures.device), index.to(self.pictures.device)])

        return source

    def _images(self, pictures: Tensor) -> tuple[Tensor, AbstractPreprocessing]:
        pixels = pictures.float() / 255
        return self.space.to_model(pixels.flatten(0, 1)).view_as(pixels), self.space


def drawn(groups: Sequence[Sequence[int]], ways: int, count: int, seed: int) -> list[Chosen]:
    """`count` random tasks: one class of each of `ways` different groups."""
    generator = torch.Generator().manual_seed(seed)

    def one() -> Chosen:
        picked = torch.randperm(len(groups), generator=generator)[:ways].tolist()
        return tuple(groups[group][int(torch.randint(len(groups[group]), (), generator=generator))] for group in picked)

    return [one() for _ in range(count)]


class Scored:
    """Test pictures by class, on the device."""

    def __init__(self, split: Split, classes: int, device: torch.device) -> None:
        self.by_class = [split.images[split.labels == label].to(device) for label in range(classes)]

    def of(self, chosen: Chosen) -> Split:
        """The pictures of these classes, labelled 0, 1, ... in order."""
        counts = torch.tensor([len(self.by_class[label]) for label in chosen])
        labels = torch.arange(len(chosen)).repeat_interleave(counts)
        return Split(torch.cat([self.by_class[label] for label in chosen]), labels)
