"""A k-way image classifier, trained afresh on what a memory recalls; it can be used, saved and taken away.

Training follows the memory's own schedule (`Retraining`), which it was distilled for and which looks at far fewer
images than the paper's evaluation does, for the same accuracy: `benchmarks/fit.py` measures the two side by side.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self, final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.io.atomic import write_atomically
from recall_server.core.io.tensor_file import (
    FileLimits,
    canonical_json,
    pack,
    parse_json,
    read_bounded,
    unpack,
    with_prefix,
)
from recall_server.core.memory import LazyItems
from recall_server.core.networks import AbstractNetwork, Parameters, build_network
from recall_server.core.preprocessing import PREPROCESSINGS, AbstractPreprocessing
from recall_server.core.training.augmentation import AUGMENTATIONS, augment
from recall_server.core.training.descent import MomentumDescent, images_at_once, predicted_logits
from recall_server.core.training.lagged_scalars import read_scalars
from recall_server.core.training.retraining import Retraining, cosine
from recall_server.errors import InvalidBundle, NotFitted, NotFound, TrainingFailed

METADATA_KEY: Final = "fresh_classifier"
NETWORK, PREPROCESSING = "network.", "preprocessing."
LIMITS = FileLimits(file_bytes=2**29, numbers=2**27)  # the widest network that a manifest may ask for is below both

ProgressCallback = Callable[[int, int, float], None]


class ClassifierHeader(BaseModel):
    """What a classifier's file says beside its tensors; `extra` is the caller's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    labels: tuple[str, ...]
    image_shape: tuple[Annotated[int, Field(ge=1, le=65_536)], ...]
    preprocessing: str
    retraining: Retraining
    seed: int
    extra: dict[str, str]


@final
class FreshClassifier:
    """scikit-learn's contract: the constructor stores, `fit` works and returns self, and a second `fit` forgets.

    `labels` name the k columns of the targets; `image_shape` is (channels, height, width); `seed` draws the initial
    parameters, the minibatches and the augmentation. Raises ValueError for what does not go together.
    """

    def __init__(
        self,
        labels: Sequence[str],
        image_shape: tuple[int, int, int],
        preprocessing: AbstractPreprocessing,
        retraining: Retraining,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ValueError(f"a classifier needs two or more labels, each once, not {list(labels)}")
        if not preprocessing.fits(image_shape):
            raise ValueError(f"the preprocessing is not made for images of {list(image_shape)}")
        self.labels = tuple(labels)
        self.image_shape = image_shape
        self.preprocessing = preprocessing
        self.retraining = retraining
        self.seed = seed
        self.device = torch.device(device)
        self.network: AbstractNetwork = build_network(retraining.network, image_shape, len(labels))
        self.extra: dict[str, str] = {}
        self._parameters: Parameters | None = None

    def fit(
        self,
        images: Tensor | LazyItems,
        targets: Tensor,
        *,
        pretrained: Parameters | None = None,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Train on recalled images [q, r, C, H, W] in model space with `targets` [q, r, k], one for each image.

        `targets` may also be [q, 1, k] or [q, k], one for all images of a query. Of `LazyItems` only the images of a
        step are computed at a time; the result is the same up to rounding.
        Every step takes `rows_per_class` other rows of every query (all, if there are fewer), without replacement.
        `pretrained` are the layers to begin with, where the schedule does not begin at random.
        `progress(done, total, loss)` is called for every step, in their order; what it raises ends the training. On
        CUDA it comes a few steps late, so that the GPU need not wait for it. The same inputs and seed give the same
        parameters, bit for bit, on one machine. Raises ValueError for shapes that do not fit, and TrainingFailed when
        training diverges.
        """
        targets = targets.unsqueeze(1) if targets.ndim == 2 else targets
        self._check(images, targets)
        self._parameters = None
        generator = torch.Generator().manual_seed(self.seed)
        first = initial_parameters(self.network, self.retraining, pretrained, generator)
        parameters = {name: value.detach().to(self.device) for name, value in first.items()}
        images, targets = images.to(self.device, torch.float32), targets.to(self.device, torch.float32)
        batches = minibatches(images, targets, self.retraining, generator)
        descent = MomentumDescent(self.network, parameters, loss=self.retraining.loss)
        with torch.enable_grad(), _deterministic(self.device):
            losses = _descend(descent, batches, self.retraining)
            for done, loss in enumerate(read_scalars(losses, self.device), start=1):
                self._report(done, loss, progress)
        if not descent.finite():
            raise self._diverged(self.retraining.steps)
        self._parameters = descent.parameters()
        return self

    @torch.no_grad()
    def predict_probabilities(self, pixels: Tensor) -> Tensor:
        """Pictures [N, C, H, W] in pixel space -> probabilities [N, k] on the CPU. ValueError for another shape."""
        parameters = self._fitted()
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.image_shape:
            raise ValueError(f"pictures must be [N, {', '.join(map(str, self.image_shape))}], not {list(pixels.shape)}")
        chunks = [torch.empty(0, len(self.labels))]
        for chunk in torch.split(pixels, images_at_once(self.network, self.device)) if len(pixels) else ():
            images = self.preprocessing.to_model(chunk.to(self.device, torch.float32))
            chunks.append(predicted_logits(self.network, parameters, images).softmax(dim=1).cpu())
        return torch.cat(chunks)

    def predict(self, pixels: Tensor) -> list[str]:
        """Pictures [N, C, H, W] in pixel space -> the most probable label of each."""
        return [self.labels[index] for index in self.predict_probabilities(pixels).argmax(dim=1).tolist()]

    def save(self, path: str | os.PathLike[str], extra: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file, the same bytes for the same content; raises StorageFailed, leaving no half.

        `extra` is kept with it and comes back as the attribute `extra` of the loaded classifier.
        """
        header = ClassifierHeader(
            labels=self.labels,
            image_shape=self.image_shape,
            preprocessing=self.preprocessing.kind,
            retraining=self.retraining,
            seed=self.seed,
            extra=dict(self.extra if extra is None else extra),
        )
        tensors = {NETWORK + name: value for name, value in self._fitted().items()}
        tensors |= {PREPROCESSING + name: value for name, value in self.preprocessing.tensors().items()}
        text = canonical_json(header.model_dump(mode="json"))
        write_atomically(path, pack(tensors, key=METADATA_KEY, text=text))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Self:
        """Read what `save` wrote. Raises NotFound, or InvalidBundle for anything that is not exactly such a file."""
        try:
            data = read_bounded(path, LIMITS.file_bytes)
            tensors, text = unpack(data, key=METADATA_KEY, limits=LIMITS, dtypes=frozenset({"F32"}))
            return cls._from_file(tensors, ClassifierHeader.model_validate(parse_json(text)), device)
        except FileNotFoundError as error:
            raise NotFound(f"there is no classifier {Path(path).name}") from error
        except (OSError, ValueError) as error:
            raise InvalidBundle(f"{Path(path).name} is no classifier that can be loaded: {error}") from error

    def export_onnx(self) -> bytes:
        """An ONNX model: "images" [N, C, H, W] in pixel space -> "probabilities" [N, k], preprocessing inside.

        The model's metadata holds the `labels`, as a JSON list in the order of the columns, and what `extra` holds.
        """
        return export_network(
            self.network,
            self._fitted(),
            self.preprocessing,
            self.image_shape,
            output="probabilities",
            metadata=self.extra | {"labels": canonical_json(self.labels)},
        )

    def _fitted(self) -> Parameters:
        if self._parameters is None:
            raise NotFitted("this classifier has not been trained; call fit first")
        return self._parameters

    def _check(self, images: Tensor | LazyItems, targets: Tensor) -> None:
        if images.ndim != 5 or 0 in images.shape or tuple(images.shape[2:]) != self.image_shape:
            raise ValueError(
                f"recalled images must be [queries, rows, {', '.join(map(str, self.image_shape))}], "
                f"not {list(images.shape)}"
            )
        queries, rows, labels = images.shape[0], images.shape[1], len(self.labels)
        if targets.shape not in {(queries, rows, labels), (queries, 1, labels)}:
            raise ValueError(f"targets must be [{queries}, {rows} or 1, {labels}], not {list(targets.shape)}")
        finite = bool(images.isfinite().all()) if isinstance(images, Tensor) else images.finite()
        if not finite or not bool(targets.isfinite().all()):
            raise ValueError("recalled images and targets must be finite numbers")

    def _report(self, done: int, loss: float, progress: ProgressCallback | None) -> None:
        if not math.isfinite(loss):
            raise self._diverged(done)
        if progress is not None:
            progress(done, self.retraining.steps, loss)

    def _diverged(self, done: int) -> TrainingFailed:
        rate = self.retraining.learning_rate
        return TrainingFailed(
            f"training diverged after {done} of {self.retraining.steps} steps; a learning rate below {rate:g} is needed"
        )

    @classmethod
    def _from_file(cls, tensors: Mapping[str, Tensor], header: ClassifierHeader, device: str | torch.device) -> Self:
        """Raises ValueError, with a sentence, for a header and tensors that do not make a classifier."""
        if len(header.image_shape) != 3:
            raise ValueError(f"image_shape must be channels, height and width, not {list(header.image_shape)}")
        if header.preprocessing not in PREPROCESSINGS:
            raise ValueError(f"the preprocessing {header.preprocessing!r} is not one of {', '.join(PREPROCESSINGS)}")
        channels, height, width = header.image_shape
        stored = with_prefix(PREPROCESSING, tensors)
        try:
            preprocessing = PREPROCESSINGS[header.preprocessing].from_tensors(stored)
        except KeyError as error:
            raise ValueError(f"the tensor {PREPROCESSING}{error.args[0]} is missing") from error
        classifier = cls(
            header.labels, (channels, height, width), preprocessing, header.retraining, seed=header.seed, device=device
        )
        parameters = with_prefix(NETWORK, tensors)
        found = {name: tuple(value.shape) for name, value in parameters.items()}
        if found != classifier.network.shapes() or len(found) + len(preprocessing.tensors()) != len(tensors):
            raise ValueError(f"the tensors are not exactly those of {header.retraining.network}")
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError("the tensors hold numbers that are not finite")
        # In the network's order, which is what makes a saved copy equal to the original.
        classifier._parameters = {name: parameters[name].to(classifier.device) for name in classifier.network.shapes()}
        classifier.extra = header.extra
        return classifier


def _deterministic(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """On CUDA, only kernels that give the same bits every time; on the CPU all of ours do."""
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, deterministic=True)
    return contextlib.nullcontext()


def _descend(
    descent: MomentumDescent, batches: Iterator[tuple[Tensor, Tensor]], retraining: Retraining
) -> Iterator[Tensor]:
    """Take all steps, one whenever a loss is asked for."""
    for done, (batch, target) in zip(range(retraining.steps), batches, strict=False):
        yield descent.step(batch, target, rate=learning_rate(retraining, done), momentum=retraining.momentum)


def initial_parameters(
    network: AbstractNetwork, retraining: Retraining, pretrained: Parameters | None, generator: torch.Generator
) -> Parameters:
    """Where a network of this schedule begins: at random, or with learned layers.

    Raises ValueError where these are missing, are not asked for, or are not the network's.
    """
    if pretrained is None and retraining.initial != "random":
        raise ValueError("networks of this schedule begin with an encoder's layers, which must be given")
    if pretrained is not None and retraining.initial == "random":
        raise ValueError("networks of this schedule begin at random; layers to begin with were given")
    return network.initialise(generator) if pretrained is None else network.initialise_from(pretrained)


def learning_rate(retraining: Retraining, done: int) -> float:
    """The learning rate of the step that comes after `done` steps."""
    if retraining.decay == "cosine":
        return retraining.learning_rate * cosine(done / retraining.steps)
    return retraining.learning_rate


def minibatches(
    images: Tensor | LazyItems, targets: Tensor, retraining: Retraining, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless minibatches [q * n, C, H, W] with targets [q * n, k], n distinct rows of each of q queries.

    `targets` are [q, r, k], or [q, 1, k] where all images of a query share one.
    """
    queries, rows = images.shape[:2]
    drawn = min(retraining.rows_per_class, rows)
    kinds = AUGMENTATIONS[retraining.augmentation]
    shared = targets.shape[1] == 1
    repeated = targets.expand(-1, drawn, -1).flatten(0, 1) if shared else targets  # [q * n, k]
    query = torch.arange(queries, device=images.device).unsqueeze(1)
    while True:
        chosen = torch.rand(queries, rows, generator=generator).argsort(dim=1)[:, :drawn]  # [q, n]
        index = query, chosen.to(images.device, non_blocking=True)
        yield (
            augment(images[index].flatten(0, 1), kinds, generator),
            repeated if shared else targets[index].flatten(0, 1),
        )
