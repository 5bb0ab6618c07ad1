"""A k-way image classifier, trained from scratch on recalled images.

Training follows the schedule that the memory was distilled for (`Retraining`). It processes far fewer images than the
paper's evaluation protocol, for the same accuracy: `benchmarks/fit.py` compares the two.
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

from recall_server.core.classifier.class_statistics import LinearHead
from recall_server.core.classifier.familiarity import Familiarity
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
from recall_server.core.networks.spec import NetworkSpec
from recall_server.core.preprocessing import PREPROCESSINGS, AbstractPreprocessing, Standardise
from recall_server.core.training.descent import MomentumDescent, images_at_once, predicted_logits
from recall_server.core.training.lagged_scalars import read_scalars
from recall_server.core.training.minibatches import minibatches
from recall_server.core.training.retraining import Retraining, initial_parameters, learning_rate
from recall_server.errors import InvalidBundle, NotFitted, NotFound, TrainingFailed

METADATA_KEY: Final = "fresh_classifier"
NETWORK, PREPROCESSING, FAMILIARITY = "network.", "preprocessing.", "familiarity."
LIMITS = FileLimits(file_bytes=2**29, numbers=2**27)  # above the largest network that a manifest may ask for

ProgressCallback = Callable[[int, int, float], None]


class ClassifierHeader(BaseModel):
    """The metadata of a classifier's file; `extra` belongs to the caller."""

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
    """A classifier with scikit-learn's interface: `fit` trains and returns self, a second `fit` starts again.

    `labels` name the k columns of the targets. `image_shape` is (channels, height, width). `seed` determines the
    initial parameters, the minibatches and the augmentation. `familiarity`, which the head of an encoder may have, says
    of features how familiar they are. Raises ValueError for fewer than two labels, for repeated labels, and for a
    preprocessing or a network that does not suit the image shape.
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
            raise ValueError(f"a classifier needs two or more distinct labels, not {list(labels)}")
        if not preprocessing.fits(image_shape):
            raise ValueError(f"the preprocessing does not accept images of shape {list(image_shape)}")
        self.labels = tuple(labels)
        self.image_shape = image_shape
        self.preprocessing = preprocessing
        self.retraining = retraining
        self.seed = seed
        self.device = torch.device(device)
        self.network: AbstractNetwork = build_network(retraining.network, image_shape, len(labels))
        self.extra: dict[str, str] = {}
        self.familiarity: Familiarity | None = None
        self._parameters: Parameters | None = None

    @classmethod
    def of_head(cls, labels: Sequence[str], head: LinearHead) -> Self:
        """The classifier of features [N, D, 1, 1] with this head, whose rows are `labels`; `retraining` is a stub."""
        width = head.weights.shape[1]
        schedule = Retraining(network=NetworkSpec(architecture="linear"), steps=1, learning_rate=1, rows_per_class=1)
        as_they_are = Standardise(torch.zeros(width), torch.ones(width))
        classifier = cls(labels, (width, 1, 1), as_they_are, schedule)
        classifier._parameters = {"classifier.weight": head.weights.contiguous(), "classifier.bias": head.bias}
        return classifier

    def linear_head(self) -> LinearHead:
        """The head over features as the encoder gives them. ValueError for another network than linear."""
        if self.retraining.network.architecture != "linear" or not isinstance(self.preprocessing, Standardise):
            raise ValueError(f"a {self.retraining.network} is no linear head")
        weights = self.parameters()["classifier.weight"] / self.preprocessing.deviation
        return LinearHead(weights, self.parameters()["classifier.bias"] - weights @ self.preprocessing.mean)

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
        Every step draws `rows_per_class` rows of every query (all, if there are fewer) without replacement.
        `pretrained` are the initial layers of a schedule that does not start from random weights.
        `progress(done, total, loss)` is called once per step, in order; an exception from it ends the training. On
        CUDA the calls lag a few steps behind, so that the GPU need not wait. On one machine, the same inputs and seed
        give bit-identical parameters. Raises ValueError for shapes that do not match, and TrainingFailed if training
        diverges.
        """
        targets = targets.unsqueeze(1) if targets.ndim == 2 else targets
        self._check(images, targets)
        self._parameters = None
        generator = torch.Generator().manual_seed(self.seed)
        first = initial_parameters(self.network, self.retraining, pretrained, generator)
        parameters = {name: value.detach().to(self.device) for name, value in first.items()}
        images, targets = images.to(self.device, torch.float32), targets.to(self.device, torch.float32)
        batches = minibatches(images, targets, self.retraining, generator)
        descent = MomentumDescent(
            self.network, parameters, loss=self.retraining.loss, weight_decay=self.retraining.weight_decay
        )
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
        """Pictures [N, C, H, W] in pixel space -> probabilities [N, k] on the CPU.

        Raises ValueError for another shape, and NotFitted before `fit`.
        """
        parameters = self.parameters()
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
        """Write `to_bytes` to a file. Raises NotFitted before `fit`, and StorageFailed, leaving no partial file."""
        write_atomically(path, self.to_bytes(extra))

    def to_bytes(self, extra: Mapping[str, str] | None = None) -> bytes:
        """The classifier as one safetensors file; the same content gives the same bytes. Raises NotFitted.

        `extra` is stored in the file and becomes the attribute `extra` of the loaded classifier.
        """
        header = ClassifierHeader(
            labels=self.labels,
            image_shape=self.image_shape,
            preprocessing=self.preprocessing.kind,
            retraining=self.retraining,
            seed=self.seed,
            extra=dict(self.extra if extra is None else extra),
        )
        tensors = {NETWORK + name: value for name, value in self.parameters().items()}
        tensors |= {PREPROCESSING + name: value for name, value in self.preprocessing.tensors().items()}
        if self.familiarity is not None:
            tensors |= {FAMILIARITY + name: value for name, value in self.familiarity.tensors().items()}
        return pack(tensors, key=METADATA_KEY, text=canonical_json(header.model_dump(mode="json")))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Self:
        """Read a file that `save` wrote. Raises NotFound if it is missing, and InvalidBundle if it is not valid."""
        try:
            data = read_bounded(path, LIMITS.file_bytes)
            tensors, text = unpack(data, key=METADATA_KEY, limits=LIMITS, dtypes=frozenset({"F32"}))
            return cls._from_file(tensors, ClassifierHeader.model_validate(parse_json(text)), device)
        except FileNotFoundError as error:
            raise NotFound(f"there is no classifier {Path(path).name}") from error
        except (OSError, ValueError) as error:
            raise InvalidBundle(f"{Path(path).name} cannot be loaded as a classifier: {error}") from error

    def export_onnx(self) -> bytes:
        """An ONNX model: "images" [N, C, H, W] in pixel space -> "probabilities" [N, k], preprocessing included.

        The model's metadata has `labels`, a JSON list in the order of the columns, and the entries of `extra`.
        Raises NotFitted before `fit`.
        """
        return export_network(
            self.network,
            self.parameters(),
            self.preprocessing,
            self.image_shape,
            output="probabilities",
            metadata=self.extra | {"labels": canonical_json(self.labels)},
        )

    def parameters(self) -> Parameters:
        """Those of the network. Raises NotFitted before `fit`."""
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
        rate, steps = self.retraining.learning_rate, self.retraining.steps
        return TrainingFailed(f"training diverged after {done} of {steps} steps; use a learning rate below {rate:g}")

    @classmethod
    def _from_file(cls, tensors: Mapping[str, Tensor], header: ClassifierHeader, device: str | torch.device) -> Self:
        """The classifier of a file's header and tensors. Raises ValueError if they do not match."""
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
        familiarity = with_prefix(FAMILIARITY, tensors)
        found = {name: tuple(value.shape) for name, value in parameters.items()}
        known = len(found) + len(preprocessing.tensors()) + len(familiarity)
        if found != classifier.network.shapes() or known != len(tensors):
            raise ValueError(f"the tensors are not exactly those of {header.retraining.network}")
        if not all(bool(value.isfinite().all()) for value in tensors.values()):
            raise ValueError("the tensors hold numbers that are not finite")
        # In the network's order, so that saving it again gives the same bytes.
        classifier._parameters = {name: parameters[name].to(classifier.device) for name in classifier.network.shapes()}
        classifier.extra = header.extra
        if familiarity:
            classifier.familiarity = Familiarity.from_tensors(familiarity, len(header.labels))
            if classifier.familiarity.head.weights.shape[1] != channels:
                raise ValueError(f"its familiarity is not that of {channels} features")
        return classifier


def _deterministic(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """A context in which CUDA uses deterministic kernels only; on the CPU all of ours are deterministic."""
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, deterministic=True)
    return contextlib.nullcontext()


def _descend(
    descent: MomentumDescent, batches: Iterator[tuple[Tensor, Tensor]], retraining: Retraining
) -> Iterator[Tensor]:
    """Yield the loss of each step; a step is taken when its loss is requested."""
    for done, (batch, target) in zip(range(retraining.steps), batches, strict=False):
        yield descent.step(batch, target, rate=learning_rate(retraining, done), momentum=retraining.momentum)
