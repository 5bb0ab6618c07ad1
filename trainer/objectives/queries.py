"""How the classes of an outer step address a memory: by their labels, or by pictures through an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from recall_server.core.classifier.onnx_export import export_network
from recall_server.core.encoders.weights import all_but_the_last
from recall_server.core.networks import AbstractNetwork, Parameters
from recall_server.core.preprocessing import AbstractPreprocessing
from recall_server.core.training.fused import trainable_parameters
from trainer.objectives.real_data import ClassQueries, RealData

ENCODER = "encoder."  # what the names of an encoder's learned tensors begin with


class AbstractQueries(ABC):
    """Query vectors of classes. `kind` is what manifests call it."""

    kind: ClassVar[str]
    shots: int = 0  # pictures of a class that make its query; none where labels do

    @abstractmethod
    def draw(self, real: RealData, classes: Sequence[int], count: int, generator: torch.Generator) -> ClassQueries:
        """A query for each class, and `count` real items of each beside it."""

    def learned(self) -> dict[str, Tensor]:
        """The tensors that are optimised with the memory, by name."""
        return {}

    def pretrained(self) -> Parameters | None:
        """The layers that classifiers begin with now; None where they begin at random."""
        return None

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [N, C, H, W] in model space -> features [N, d_y]. ValueError where there is no encoder."""
        raise ValueError(f"queries of {self.kind} have no encoder")

    def export(
        self, tensors: Mapping[str, Tensor], preprocessing: AbstractPreprocessing, metadata: Mapping[str, str]
    ) -> bytes | None:
        """The ONNX file of the encoder, with the learned `tensors` as given; None where there is no encoder."""
        return None


@final
@dataclass(frozen=True, eq=False)
class LabelQueries(AbstractQueries):
    """One-hot vectors over the labels."""

    kind: ClassVar[str] = "labels"

    def draw(self, real: RealData, classes: Sequence[int], count: int, generator: torch.Generator) -> ClassQueries:
        index = torch.stack([real.draw(label, count, generator) for label in classes])
        return ClassQueries(torch.eye(len(real.members), device=real.items.device)[classes], index)


@final
@dataclass(frozen=True, eq=False)
class PictureQueries(AbstractQueries):
    """The mean of an encoder's features of `shots` pictures of each class (paper, 5.3.2 and B.3).

    The encoder is trained with the memory: `parameters` are all of it, `leaves` those that are optimised. With
    `begins_networks` every network begins with the layers that the encoder has learned so far, so that these learn
    from the outer loss in both ways.
    """

    encoder: AbstractNetwork
    parameters: Parameters
    leaves: Parameters
    shots: int
    begins_networks: bool = False
    kind: ClassVar[str] = "images"

    @classmethod
    def of(
        cls,
        encoder: AbstractNetwork,
        parameters: Mapping[str, Tensor],
        *,
        shots: int,
        begins_networks: bool = False,
    ) -> Self:
        """Queries through a copy of the encoder that can be trained."""
        # A bias in front of a norm has no gradient but rounding noise, which Adam would turn into steps.
        leaves = {name: leaf(parameters[name]) for name in trainable_parameters(encoder)}
        return cls(encoder, dict(parameters) | leaves, leaves, shots, begins_networks)

    def learned(self) -> dict[str, Tensor]:
        return {ENCODER + name: value for name, value in self.leaves.items()}

    def pretrained(self) -> Parameters | None:
        return all_but_the_last(self.parameters) if self.begins_networks else None

    def encode(self, pictures: Tensor) -> Tensor:
        return self.encoder.logits(self.parameters, pictures)

    def vectors(self, pictures: Tensor) -> Tensor:
        """Pictures [q, shots, C, H, W] in model space -> queries [q, d_y]."""
        return self.encode(pictures.flatten(0, 1)).reshape(*pictures.shape[:2], -1).mean(dim=1)

    def draw(self, real: RealData, classes: Sequence[int], count: int, generator: torch.Generator) -> ClassQueries:
        drawn = [real.draw_disjoint(label, self.shots, count, generator) for label in classes]
        shown, others = (torch.stack(index) for index in zip(*drawn, strict=True))
        return ClassQueries(self.vectors(real.items[shown.to(real.items.device)]), others)

    def export(
        self, tensors: Mapping[str, Tensor], preprocessing: AbstractPreprocessing, metadata: Mapping[str, str]
    ) -> bytes | None:
        parameters = {
            name: tensors.get(ENCODER + name, value.detach().cpu()) for name, value in self.parameters.items()
        }
        shape = self.encoder.channels, self.encoder.height, self.encoder.width
        return export_network(self.encoder, parameters, preprocessing, shape, output="queries", metadata=metadata)


def leaf(tensor: Tensor) -> Tensor:
    """A copy that can be optimised."""
    return tensor.detach().clone().requires_grad_()
